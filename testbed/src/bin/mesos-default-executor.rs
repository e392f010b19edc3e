//! Executor with the name of Mesos's own; see [`testbed::executor::group`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match testbed::executor::group::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesos-default-executor: {error:#}");
            ExitCode::FAILURE
        }
    }
}
