//! Executor with the name of Mesos's own; see [`testbed::executor::docker`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match testbed::executor::docker::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesos-docker-executor: {error:#}");
            ExitCode::FAILURE
        }
    }
}
