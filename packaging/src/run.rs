//! External programs.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use testbed::install;

/// Runs a program without standard input and returns what it printed on standard output.
///
/// # Errors
/// The program cannot be started, or fails; the error has its standard error. The error about a
/// missing program names Debian's package of it.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| cannot_run(&program))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed ({}): {}", output.status, errors.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns a message that a program cannot be run, for errors whose cause says why.
fn cannot_run(program: &str) -> String {
    match install::package_of(program) {
        Some(package) => format!("running {program}, of Debian's package {package}"),
        None => format!("running {program}"),
    }
}

/// Returns a command for the cargo that runs this program, or for the one in `PATH`.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_a_missing_program_is_named() {
        for (program, package) in [("ld", "binutils"), ("git", "git"), ("gcc", "gcc")] {
            let mut command = Command::new(program);
            // The directory does not exist, so the program is not found.
            let error = output(command.current_dir("/no/such/directory")).unwrap_err();
            let said = format!("{error:#}");
            assert!(said.contains(&format!("package {package}: ")), "{said}");
        }
    }
}
