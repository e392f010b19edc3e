//! Executor with the name of Mesos's own; see [`testbed::executor::command`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match testbed::executor::command::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesos-executor: {error:#}");
            ExitCode::FAILURE
        }
    }
}
