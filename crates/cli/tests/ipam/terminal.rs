//! The program with a terminal as its standard input.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::process::{Child, ChildStderr, Stdio};

use nix::pty::openpty;
use testbed::program::Program;

/// The program while it asks for confirmation.
pub struct Asking {
    child: Child,
    keyboard: File,
    errors: BufReader<ChildStderr>,
    said: String,
}

impl Asking {
    /// Starts the program, and waits until it asks.
    pub fn start(program: &Program, arguments: &[&str]) -> Asking {
        let terminal = openpty(None, None).unwrap();
        let mut command = program.command(arguments);
        command
            .stdin(Stdio::from(terminal.slave))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The command holds the terminal's other end.
        drop(command);
        let errors = BufReader::new(child.stderr.take().unwrap());
        let mut asking = Asking {
            child,
            keyboard: File::from(terminal.master),
            errors,
            said: String::new(),
        };
        while !asking.said.ends_with("to confirm: ") {
            let mut byte = [0];
            let read = asking.errors.read(&mut byte).unwrap();
            assert_eq!(read, 1, "it does not ask: {}", asking.said);
            // What it says before the question is ASCII, or is not looked at.
            asking.said.push(char::from(byte[0]));
        }
        asking
    }

    /// Returns what it said until it asked.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Types a line. Returns exit status, standard output and the rest of standard error.
    pub fn answer(mut self, line: &str) -> (Option<i32>, String, String) {
        writeln!(self.keyboard, "{line}").unwrap();
        let mut rest = String::new();
        self.errors.read_to_string(&mut rest).unwrap();
        let mut out = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code(), out, rest)
    }
}
