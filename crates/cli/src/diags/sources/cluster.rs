//! What the program itself reports, and what the leading master answers.

use std::process::Command;
use std::time::Duration;

use super::Collector;
use crate::connection::{AskError, ConnectionOptions, Http, candidates};
use crate::diags::bundle::{Content, FILE_LIMIT, Form};
use crate::diags::command::Tools;

/// Time limit of a report of this program.
const LIMIT: Duration = Duration::from_secs(30);

/// Endpoints of the leading master: name in the archive, path.
const MASTER: [(&str, &str); 6] = [
    ("health.json", "/overlay-master/health"),
    ("state.json", "/overlay-master/state"),
    ("overlays.json", "/overlay-master/overlays"),
    ("metrics.json", "/metrics/snapshot"),
    ("version.json", "/version"),
    ("flags.json", "/flags"),
];

impl Collector<'_> {
    /// Adds the reports of this program and the answers of the leading master.
    pub(super) fn cluster(&mut self) {
        let connection = arguments(self.connection);
        for (name, command) in [
            ("status", &["status"][..]),
            ("check-host", &["check", "host"]),
            ("ipam-check", &["ipam", "check"]),
        ] {
            let mut arguments: Vec<String> = command.iter().map(ToString::to_string).collect();
            // The check of a host asks no master.
            if name != "check-host" {
                arguments.extend(connection.clone());
            }
            self.report(name, arguments);
        }
        let files = self
            .mesos
            .configs
            .iter()
            .map(|file| file.display().to_string());
        let files: Vec<String> = files.collect();
        if !files.is_empty() {
            let command = ["check", "config"].map(str::to_owned);
            self.report("check-config", command.into_iter().chain(files).collect());
        }
        self.progress.say("the leading master");
        match self.leader() {
            Ok((http, address)) => {
                self.ask("master", "the leading master", &http, &address, &MASTER)
            }
            Err(reason) => {
                let what = "answers of the leading master";
                self.add("master/", what, Form::Json, Err(reason));
            }
        }
    }

    /// Adds a report of this program.
    fn report(&mut self, name: &str, mut arguments: Vec<String>) {
        let what = format!("mesos-overlay {}", words(&arguments));
        self.progress.say(&what);
        arguments.extend(["-o", "json", "--color", "never"].map(str::to_owned));
        let content = own_report(&mut self.tools, &what, &arguments);
        self.add(&format!("reports/{name}.json"), &what, Form::Json, content);
    }

    /// Returns the client and the address of the leading master, or of the first that is known.
    fn leader(&self) -> Result<(Http, String), String> {
        let http = Http::new(self.connection).map_err(|failure| failure.0)?;
        let place = candidates::find(self.connection, &self.mesos.host);
        let place = place.map_err(|failure| failure.0)?;
        let found = crate::connection::Master::among(&http, &place);
        let address = match found {
            Ok(master) => master.address().to_owned(),
            Err(unserved) => unserved.master,
        };
        Ok((http, address))
    }

    /// Adds answers of a server.
    pub(super) fn ask(
        &mut self,
        directory: &str,
        whose: &str,
        http: &Http,
        address: &str,
        endpoints: &[(&str, &str)],
    ) {
        let mut is_silent = None;
        for (name, path) in endpoints {
            self.progress.say(&format!("{address}{path}"));
            let content = match &is_silent {
                // One time limit is enough.
                Some(reason) => Err(String::clone(reason)),
                None => http.get(address, path).map_err(|error| {
                    if let AskError::Silent(reason) = &error {
                        is_silent = Some(reason.clone());
                    }
                    error.to_string()
                }),
            };
            let content =
                content.and_then(
                    |answer| match answer.is_success() || *name == "health.json" {
                        true => Ok(Content::from(answer.body)),
                        false => Err(format!("status {}: {}", answer.status, answer.sentence())),
                    },
                );
            let what = format!("{path} of {whose}, {address}");
            self.add(&format!("{directory}/{name}"), &what, Form::Json, content);
        }
    }
}

/// Returns the options of the command line for another run of this program.
fn arguments(options: &ConnectionOptions) -> Vec<String> {
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let values = [
        ("--master", options.master.clone()),
        ("--agent-config", options.agent_config.as_ref().map(path)),
        ("--principal", options.principal.clone()),
        ("--secret-file", options.secret_file.as_ref().map(path)),
        ("--ca-file", options.ca_file.as_ref().map(path)),
        ("--timeout", Some(options.timeout.to_string())),
    ];
    let values = values.into_iter();
    let given = values.filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    let https = options.https.then(|| "--https".to_owned());
    given.chain(https).collect()
}

/// Returns the words of a command without its options, whose values can be secrets.
fn words(arguments: &[String]) -> String {
    let words = arguments
        .iter()
        .take_while(|argument| !argument.starts_with("--"));
    words.cloned().collect::<Vec<_>>().join(" ")
}

/// Runs this program. The error is a sentence.
fn own_report(tools: &mut Tools, name: &str, arguments: &[String]) -> Result<Content, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot find this program itself: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments);
    let output = tools.run_command(name, command, LIMIT, FILE_LIMIT)?;
    let output = output.ended(name, LIMIT)?;
    let is_json = serde_json::from_slice::<serde_json::Value>(&output.text).is_ok();
    if !is_json {
        let lines: Vec<&str> = output.errors.lines().map(str::trim).collect();
        let lines = lines.join(" ");
        let lines = lines.trim_start_matches("error: ");
        return Err(lines.chars().take(500).collect());
    }
    Ok(Content::from(output.text))
}
