//! Executor of the test tasks, which serves [`testbed::task`].
//!
//! ```text
//! overlay-test-executor [ADDRESS:PORT]          under an agent; listens there
//! overlay-test-executor --alone ADDRESS:PORT    without Mesos
//! ```
//!
//! Its statuses have no timestamp, which Mesos allows.

use std::env;
use std::net::TcpListener;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::json;
use testbed::executor::{Connection, Event};
use testbed::task;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--alone", address] => listen(address).map(|listener| task::serve(&listener)),
        [] => run("[::]:7007"),
        [address] => run(address),
        _ => Err(anyhow::anyhow!(
            "usage: overlay-test-executor [--alone] [ADDRESS:PORT]"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overlay-test-executor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Listens on an address. Without IPv6, `[::]` means every IPv4 address.
fn listen(address: &str) -> Result<TcpListener> {
    let v4 = address.replace("[::]", "0.0.0.0");
    TcpListener::bind(address)
        .or_else(|_| TcpListener::bind(&v4))
        .with_context(|| format!("listening on {address}"))
}

fn run(address: &str) -> Result<()> {
    // Before anything changes the network namespace.
    let listener = listen(address)?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || task::serve(&listener));
    let data = BASE64_STANDARD.encode(json!({ "port": port }).to_string());
    let connection = Connection::from_environment()?;
    connection.run(|event| match event {
        Event::Launch(tasks) => {
            for task in tasks {
                let id = task["task_id"]["value"].as_str().unwrap_or_default();
                connection.update(id, json!({ "state": "TASK_RUNNING", "data": data }), false);
            }
        }
        // Each executor gets one task.
        Event::Kill(id, _) => connection.update(&id, json!({ "state": "TASK_KILLED" }), true),
        Event::Subscribed(_) | Event::Shutdown => {}
    })
}
