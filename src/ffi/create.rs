//! Creation of nodes, and the logger.

use std::ffi::c_void;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use overlay_core::agent::Agent;
use overlay_core::config::{AuthenticateHttp, ConfigError};
use overlay_core::host_api::desired::Backend;
use overlay_core::master::Master;
use overlay_core::{Level, Machine, Upid};

use super::types::*;
use super::{arguments, check_size, mo_node};
use crate::runtime::Seeds;
use crate::runtime::settings;
use crate::runtime::settings::Environment;
use crate::runtime::workers;
use crate::runtime::{
    Clock, LocalHost, LogSettings, Logger, MachineFactory, Node, NodeOptions, Role, catch, log,
};

/// Release of the module, which masters show.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Context pointer of a callback that may be called from any thread.
#[derive(Clone, Copy)]
struct Context(*mut c_void);

// SAFETY: the header demands that each callback with a context may be called from any
// thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Returns the pointer. Closures that call this capture the `Context`, which is `Send`,
    /// and not the field.
    fn get(self) -> *mut c_void {
        self.0
    }
}

/// Sends all log lines to `function`.
///
/// # Safety
/// `function` may be called from any thread with `ctx` until it is replaced.
pub(super) unsafe fn set_logger(function: MoLogFn, ctx: *mut c_void) {
    let ctx = Context(ctx);
    let logger = function.map(|function| -> Logger {
        Arc::new(move |level, line| {
            let severity = match level {
                Level::Info => MoSeverity::Info,
                Level::Warning => MoSeverity::Warning,
                Level::Error => MoSeverity::Error,
            };
            // SAFETY: guaranteed by the caller; the line lives until the call returns.
            unsafe { function(ctx.get(), severity, MoBytes::lend(line.as_bytes())) }
        })
    });
    crate::runtime::set_logger(logger);
}

/// Creates a node for `mo_master_new` and `mo_agent_new`.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
pub(super) unsafe fn new(
    role: Role,
    options: *const MoOptions,
    node: *mut *mut mo_node,
) -> MoResult {
    if node.is_null() {
        return MoResult::Null;
    }
    // SAFETY: not NULL, so valid.
    unsafe { node.write(std::ptr::null_mut()) };
    // SAFETY: guaranteed by the caller.
    match catch(|| unsafe { create(role, options) }) {
        Ok(Ok(created)) => {
            // SAFETY: as above.
            unsafe { node.write(mo_node::boxed(created)) };
            MoResult::Ok
        }
        Ok(Err(result)) => result,
        Err(panic) => {
            log(role, Level::Error, &format!("cannot be created: {panic}"));
            MoResult::Panic
        }
    }
}

/// # Safety
/// `options` is NULL or valid as the header says.
unsafe fn create(role: Role, options: *const MoOptions) -> Result<Node, MoResult> {
    // SAFETY: guaranteed by the caller.
    let (options, parameters) = unsafe {
        check_size(options)?;
        let options = options.read();
        (
            options,
            arguments::pairs(options.parameters, options.parameter_count)?.collect::<Vec<_>>(),
        )
    };
    let Configured {
        factory,
        detect,
        log: log_settings,
        authenticate_http,
    } = configure(role, &parameters).map_err(|error| {
        for line in error.lines() {
            log(role, Level::Error, &line);
        }
        MoResult::Config
    })?;
    let wake = options.wake;
    let wake_ctx = Context(options.wake_ctx);
    Ok(Node::new(NodeOptions {
        role,
        factory,
        detect,
        authenticate_http,
        log: log_settings,
        host: Box::new(LocalHost::new(Arc::new(move || {
            if let Some(wake) = wake {
                // SAFETY: the header demands that it may be called from any thread until the
                // node is freed, and freeing the node ends the host's threads first.
                unsafe { wake(wake_ctx.get()) }
            }
        }))),
        clock: clock(&options),
        seeds: Seeds::of(options.seed),
    }))
}

/// Arguments of a node from its configuration and environment.
struct Configured {
    factory: MachineFactory,
    detect: Option<String>,
    log: Option<LogSettings>,
    authenticate_http: AuthenticateHttp,
}

fn configure(role: Role, parameters: &[(String, String)]) -> Result<Configured, ConfigError> {
    let environment = Environment::of_process();
    let file = settings::config_path(role, parameters)?;
    Ok(match role {
        Role::Master => {
            let settings = settings::master(&file, &environment)?;
            let log = settings.log.as_ref();
            if settings.detect.is_some() || log.is_some_and(|log| log.zookeeper.is_some()) {
                workers::note_zookeeper(role);
            }
            let config = settings.config;
            let authenticate_http = config.authenticate_http;
            let factory: MachineFactory = Box::new(move |context| -> Box<dyn Machine + Send> {
                let machine = Master::new(config.clone(), context.me.clone(), context.seed);
                let machine = machine.with_release(RELEASE);
                Box::new(machine.with_restarts(context.restarts))
            });
            Configured {
                factory,
                detect: settings.detect,
                log: settings.log,
                authenticate_http,
            }
        }
        Role::Agent => {
            let settings = settings::agent(&file, &environment)?;
            if settings.detect.starts_with("zk://") {
                workers::note_zookeeper(role);
            }
            let config = settings.config;
            let authenticate_http = config.authenticate_http;
            let factory: MachineFactory = Box::new(move |context| -> Box<dyn Machine + Send> {
                if config.backend == Backend::Internal {
                    first_aid(context.me);
                }
                let machine = Agent::new(config.clone(), context.me.clone(), context.seed);
                let machine = machine.with_release(RELEASE);
                Box::new(machine.with_restarts(context.restarts))
            });
            Configured {
                factory,
                detect: Some(settings.detect),
                log: None,
                authenticate_http,
            }
        }
    })
}

/// Removes what keeps the host from reaching the master.
fn first_aid(me: &Upid) {
    let own = match me.address.ip() {
        IpAddr::V4(own) => Some(own),
        IpAddr::V6(_) => None,
    };
    if let Err(error) = overlay_host::first_aid(own) {
        log(Role::Agent, Level::Warning, &error);
    }
}

fn clock(options: &MoOptions) -> Clock {
    let Some(now_ms) = options.now_ms else {
        return Clock::system();
    };
    let ctx = Context(options.now_ctx);
    // SAFETY: the header demands that it may be called inside any call on the node.
    Clock::new(move || Duration::from_millis(unsafe { now_ms(ctx.get()) }))
}
