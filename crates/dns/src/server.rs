//! Server: UDP and TCP, zone transfers, forwarding, access, metrics.

pub mod access;
pub mod answer;
pub mod authority;
pub mod engine;
mod exposition;
pub mod forward;
mod http;
pub mod keys;
pub mod lookup;
pub mod metrics;
mod notify;
pub mod places;
pub mod rate;
pub mod request;
pub mod resolv_conf;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod udp;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use self::access::Ranges;
use self::authority::Authority;
use self::engine::{Engine, Keys};
use self::forward::{ForwardZone, Forwarder};
use self::lookup::Facts;
use self::metrics::Metrics;
use self::tcp::{Connections, Limits};
use self::udp::Listener;

/// Largest UDP message where nothing is configured, in bytes: it is not fragmented on any network that
/// carries IPv6.
pub const UDP_SIZE: u16 = 1_232;

/// Answers a second to one address over UDP where nothing is configured.
pub const RATE_LIMIT: u32 = 5_000;

/// Settings of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to answer on, over UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Threads that answer on each address over UDP.
    pub threads: usize,
    /// Ranges of the clients that may ask.
    pub allowed: Ranges,
    /// Ranges of the clients that may have whole zones.
    pub transfer: Ranges,
    /// Keys with which one may have whole zones.
    pub keys: Keys,
    /// Largest UDP message, in bytes.
    pub udp_size: u16,
    /// Answers a second to one address over UDP. 0: no limit.
    pub rate_limit: u32,
    /// Limits of TCP connections.
    pub tcp: Limits,
    /// Upstream resolvers.
    pub forward: Vec<ForwardZone>,
    /// Secondaries that are told of changes.
    pub notify: Vec<SocketAddr>,
    /// Address of metrics and health, over HTTP.
    pub http: Option<SocketAddr>,
    /// Facts about the cluster beside the zones.
    pub facts: Option<Arc<dyn Facts>>,
    /// Called when a part of the server has ended with a panic, which is an error of this program, and
    /// cannot go on. Its argument says what does not work any more.
    pub broken: fn(&str),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            threads: 1,
            allowed: Ranges::default_allowed(),
            transfer: Ranges::default(),
            keys: Keys::default(),
            udp_size: UDP_SIZE,
            rate_limit: RATE_LIMIT,
            tcp: Limits::default(),
            forward: Vec::new(),
            notify: Vec::new(),
            http: None,
            facts: None,
            broken: |what| log::error!("{what} ended with a panic"),
        }
    }
}

/// A server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Address.
        address: SocketAddr,
        /// Error of the kernel.
        error: std::io::Error,
    },
    /// An upstream resolver is this server itself.
    #[error("{0} is an upstream resolver and this server itself: give other resolvers")]
    Loop(SocketAddr),
    /// A thread cannot be started, or the kernel has no random numbers.
    #[error("cannot start: {0}")]
    Host(#[from] std::io::Error),
}

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    engine: Arc<Engine>,
    connections: Arc<Connections>,
    addresses: Vec<SocketAddr>,
    threads: Vec<JoinHandle<()>>,
    /// Runs the tasks: TCP, upstream resolvers.
    tasks: Handle,
    /// Ends the thread of the tasks when it is dropped.
    end: Option<oneshot::Sender<()>>,
    /// Address of metrics and health.
    http: Option<SocketAddr>,
    broken: fn(&str),
}

impl Server {
    /// Starts a server.
    pub fn start(config: &Config, authority: Arc<Authority>) -> Result<Self, StartError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tasks = runtime.handle().clone();
        let forwarder =
            (!config.forward.is_empty()).then(|| Forwarder::new(&config.forward, &tasks));
        let engine = Arc::new(Engine::new(config, authority, forwarder, random_secret()?));
        let mut server = Self {
            engine,
            connections: Arc::new(Connections::new(config.tcp)),
            addresses: Vec::new(),
            threads: Vec::new(),
            tasks,
            end: None,
            http: None,
            broken: config.broken,
        };
        for address in &config.listen {
            server.listen(*address, config.threads)?;
        }
        server.refuse_loops(config)?;
        if !config.notify.is_empty() {
            let engine = Arc::clone(&server.engine);
            let counters = server.engine.metrics.counters();
            let run = notify::run(engine, config.notify.clone(), counters);
            server.spawn("telling secondaries of changes", run);
        }
        if let Some(address) = config.http {
            let failed = |error| StartError::Listen { address, error };
            server
                .listen_http(address, config.facts.clone())
                .map_err(failed)?;
        }
        server.run_tasks(runtime)?;
        Ok(server)
    }

    fn listen(&mut self, address: SocketAddr, threads: usize) -> Result<(), StartError> {
        let failed = |error| StartError::Listen { address, error };
        let first = Listener::open(address).map_err(failed)?;
        // The kernel has chosen the port if it was 0.
        let address = first.address().map_err(failed)?;
        self.listen_tcp(address).map_err(failed)?;
        let mut listeners = vec![first];
        for _ in 1..threads.max(1) {
            listeners.push(Listener::open(address).map_err(failed)?);
        }
        for listener in listeners {
            let engine = Arc::clone(&self.engine);
            let counters = self.engine.metrics.counters();
            let listener = Arc::new(listener);
            let run = move || udp::serve(&listener, &engine, &counters);
            self.start_thread("dns-udp", run)?;
        }
        self.addresses.push(address);
        Ok(())
    }

    fn listen_tcp(&self, address: SocketAddr) -> std::io::Result<()> {
        let listener = tcp::listen(address)?;
        let _guard = self.tasks.enter();
        let listener = TcpListener::from_std(listener)?;
        let engine = Arc::clone(&self.engine);
        let counters = self.engine.metrics.counters();
        let connections = Arc::clone(&self.connections);
        let run = tcp::serve(listener, engine, connections, counters);
        self.spawn("answering over TCP", run);
        Ok(())
    }

    fn listen_http(
        &mut self,
        address: SocketAddr,
        facts: Option<Arc<dyn Facts>>,
    ) -> std::io::Result<()> {
        let listener = tcp::listen(address)?;
        self.http = Some(listener.local_addr()?);
        let _guard = self.tasks.enter();
        let listener = TcpListener::from_std(listener)?;
        let context = http::Context {
            engine: Arc::clone(&self.engine),
            connections: Arc::clone(&self.connections),
            facts,
            search: Mutex::default(),
        };
        self.spawn(
            "answering over HTTP",
            http::serve(listener, Arc::new(context)),
        );
        Ok(())
    }

    /// Checks that no upstream resolver is this server.
    fn refuse_loops(&self, config: &Config) -> Result<(), StartError> {
        let mut resolvers = config.forward.iter().flat_map(|zone| &zone.resolvers);
        match resolvers.find(|resolver| is_own(&self.addresses, **resolver)) {
            Some(resolver) => Err(StartError::Loop(*resolver)),
            None => Ok(()),
        }
    }

    /// Runs a task without end.
    fn spawn(&self, what: &'static str, run: impl Future<Output = ()> + Send + 'static) {
        supervise(&self.tasks, what, run, self.broken);
    }

    fn run_tasks(&mut self, runtime: Runtime) -> std::io::Result<()> {
        let (end, ended) = oneshot::channel();
        self.end = Some(end);
        let broken = self.broken;
        self.start_thread("dns-tasks", move || {
            // An error means that the sender is gone, which is the end as well.
            let run = AssertUnwindSafe(|| runtime.block_on(ended));
            if catch_unwind(run).is_err() {
                broken("the thread of TCP and upstream resolvers");
            }
            runtime.shutdown_background();
        })
    }

    fn start_thread(
        &mut self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned());
        self.threads.push(thread.spawn(run)?);
        Ok(())
    }

    /// Returns the addresses that are listened on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the address of metrics and health, over HTTP.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Returns the counters.
    pub fn metrics(&self) -> &Metrics {
        &self.engine.metrics
    }

    /// Returns the number of open TCP connections.
    pub fn connections(&self) -> usize {
        self.connections.open()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.engine.stop.store(true, Ordering::Relaxed);
        self.end.take();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the name server ended with a panic");
            }
        }
    }
}

/// Returns random bytes of the kernel.
fn random_secret() -> Result<[u8; 16], std::io::Error> {
    let mut secret = [0; 16];
    let mut source = std::fs::File::open("/dev/urandom")?;
    std::io::Read::read_exact(&mut source, &mut secret)?;
    Ok(secret)
}

/// Runs a task without end, and reports a panic that ends it.
fn supervise(
    tasks: &Handle,
    what: &'static str,
    run: impl Future<Output = ()> + Send + 'static,
    broken: fn(&str),
) {
    let task = tasks.spawn(run);
    tasks.spawn(async move {
        if task.await.is_err_and(|error| error.is_panic()) {
            broken(what);
        }
    });
}

/// Tells whether a resolver is a server that listens on these addresses of this host.
pub fn is_own(listen: &[SocketAddr], resolver: SocketAddr) -> bool {
    let is_same = |own: &SocketAddr| {
        own.port() == resolver.port()
            && (own.ip() == resolver.ip()
                || own.ip().is_unspecified() && is_of_this_host(resolver.ip()))
    };
    listen.iter().any(is_same)
}

/// Tells whether this host has an address: only then a socket can have it.
fn is_of_this_host(address: std::net::IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}
