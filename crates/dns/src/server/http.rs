//! HTTP: metrics for Prometheus, health, and what is known about a name or address.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::engine::{Engine, is_complete};
use super::exposition;
use super::lookup::{self, Facts};
use super::tcp::Connections;

/// Connections at once.
const MAX_CONNECTIONS: usize = 64;

/// Time that the head of a request may take.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Time that a connection may stay open.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// Pause after an error of the kernel, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Time that a lookup waits for others: one is made at once.
const SEARCH_TIME: Duration = Duration::from_secs(10);

/// Sources of the answers.
#[derive(Debug)]
pub struct Context {
    /// Zones and counters.
    pub engine: Arc<Engine>,
    /// TCP connections.
    pub connections: Arc<Connections>,
    /// Facts about the cluster beside the zones.
    pub facts: Option<Arc<dyn Facts>>,
    /// Held by the lookup that is made.
    pub search: Mutex<()>,
}

/// Accepts connections until the task is cancelled.
pub async fn serve(listener: TcpListener, context: Arc<Context>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::debug!("cannot accept a connection for HTTP: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let context = Arc::clone(&context);
        tokio::spawn(async move {
            let _place = place;
            let answer = service_fn(|request| answer(Arc::clone(&context), client, request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), answer);
            // The client may be gone, or too slow.
            let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
        });
    }
}

async fn answer(
    context: Arc<Context>,
    client: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Ok(text(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET only\n".to_owned(),
        ));
    }
    let path = request.uri().path().to_owned();
    log::debug!("{client} asks for {path}");
    // Metrics and names take milliseconds where there are many records.
    let made = tokio::task::spawn_blocking(move || respond(&context, &path));
    let failed = |_| {
        text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "see the log\n".to_owned(),
        )
    };
    Ok(made.await.unwrap_or_else(failed))
}

fn respond(context: &Context, path: &str) -> Response<Full<Bytes>> {
    match path {
        "/health" => health(context),
        "/metrics" => {
            let mut response = text(StatusCode::OK, exposition::write(context));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        _ => match path.strip_prefix("/lookup/") {
            Some(wanted) => find(context, wanted),
            None => text(
                StatusCode::NOT_FOUND,
                "there are /health, /metrics and /lookup/NAME\n".to_owned(),
            ),
        },
    }
}

/// Returns 200 where questions are answered.
fn health(context: &Context) -> Response<Full<Bytes>> {
    let zones = context.engine.authority.zones();
    match is_complete(&zones) {
        true => text(StatusCode::OK, "ok\n".to_owned()),
        false => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the tasks of the cluster are not known\n".to_owned(),
        ),
    }
}

fn find(context: &Context, wanted: &str) -> Response<Full<Bytes>> {
    // A search reads all records and tasks.
    let Some(_only) = context.search.try_lock_for(SEARCH_TIME) else {
        let busy = "other lookups take all the time; try again\n";
        return text(StatusCode::SERVICE_UNAVAILABLE, busy.to_owned());
    };
    let authority = &context.engine.authority;
    let facts = context.facts.as_deref();
    let found = match wanted.parse::<IpAddr>() {
        Ok(address) => lookup::address(authority, facts, address),
        Err(_) => match crate::zone::parse_name(wanted) {
            Ok(name) => lookup::name(authority, facts, &name),
            Err(error) => {
                let text = format!("{wanted} is neither a name nor an address: {error}\n");
                return self::text(StatusCode::BAD_REQUEST, text);
            }
        },
    };
    match serde_json::to_string(&found) {
        Ok(json) => {
            let mut response = text(StatusCode::OK, json);
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
