//! Replacement of Mesos's CNI plugin of this name, which is part of each Mesos installation but not
//! of the Python binding. Like the original it runs the plugin in `delegate` and forwards ports of
//! the host to the container:
//!
//! ```json
//! {"name":"dcos","type":"mesos-cni-port-mapper","excludeDevices":["m-dcos"],"chain":"M-DCOS",
//!  "delegate":{"type":"bridge", …},
//!  "args":{"org.apache.mesos":{"network_info":{"port_mappings":[{"host_port":8080,"container_port":80}]}}}}
//! ```

use std::io;
use std::net::Ipv4Addr;
use std::process::{Command, ExitCode};

use serde_json::{Value, json};
use testbed::cni::{CniError, Invocation, ip4};

/// CNI error code of an invalid configuration; plugins define codes from 100 on.
const BAD_CONFIG: u32 = 100;
/// CNI error code of a failed call of iptables.
const IPTABLES: u32 = 101;

fn main() -> ExitCode {
    match run() {
        Ok(Value::Null) => ExitCode::SUCCESS,
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{}", failure.0);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Value, CniError> {
    let call = Invocation::from_environment()?;
    if call.command == "VERSION" {
        return Ok(json!({ "cniVersion": "0.2.0", "supportedVersions": ["0.1.0", "0.2.0"] }));
    }
    let config: Value = serde_json::from_reader(io::stdin()).map_err(|error| {
        CniError::new(6, format!("the configuration on standard input: {error}"))
    })?;
    let mapper = Mapper::new(&call, &config)?;
    match call.command.as_str() {
        "ADD" => mapper.add(),
        "DEL" => mapper.del(),
        other => Err(CniError::new(
            4,
            format!("CNI_COMMAND {other:?} is none of ADD, DEL, VERSION"),
        )),
    }
}

struct Mapper<'a> {
    call: &'a Invocation,
    delegate: Value,
    chain: String,
    exclude: Vec<String>,
    ports: Vec<Port>,
}

#[derive(Debug)]
struct Port {
    host: u16,
    container: u16,
    protocol: String,
}

impl<'a> Mapper<'a> {
    fn new(call: &'a Invocation, config: &Value) -> Result<Mapper<'a>, CniError> {
        let bad = |what: &str| CniError::new(BAD_CONFIG, format!("mesos-cni-port-mapper: {what}"));
        let text = |key: &str| {
            config[key]
                .as_str()
                .ok_or_else(|| bad(&format!("{key:?} is not a string")))
        };
        let mut delegate = config["delegate"].clone();
        if !delegate["type"].is_string() {
            return Err(bad("\"delegate\" has no \"type\""));
        }
        // The delegate gets the same network and container.
        for key in ["name", "cniVersion", "args"] {
            if let Some(value) = config.get(key) {
                delegate[key] = value.clone();
            }
        }
        let chain = text("chain")?.to_owned();
        if chain.len() > 28 || chain.is_empty() {
            return Err(bad("\"chain\" must have 1 to 28 characters"));
        }
        text("name")?;
        let exclude = config["excludeDevices"].as_array().into_iter().flatten();
        let mappings = &config["args"]["org.apache.mesos"]["network_info"]["port_mappings"];
        let port = |mapping: &Value| {
            let number = |key: &str| {
                mapping[key]
                    .as_u64()
                    .and_then(|number| u16::try_from(number).ok())
            };
            let (Some(host), Some(container)) = (number("host_port"), number("container_port"))
            else {
                return Err(bad(&format!("port mapping {mapping} without two ports")));
            };
            let protocol = mapping["protocol"].as_str().unwrap_or("tcp").to_lowercase();
            Ok(Port {
                host,
                container,
                protocol,
            })
        };
        Ok(Mapper {
            call,
            delegate,
            chain,
            exclude: exclude
                .filter_map(|device| Some(device.as_str()?.to_owned()))
                .collect(),
            ports: mappings
                .as_array()
                .into_iter()
                .flatten()
                .map(port)
                .collect::<Result<_, _>>()?,
        })
    }

    fn add(&self) -> Result<Value, CniError> {
        let result = self.call.run(&self.delegate, None)?;
        let forwarded = match self.ports.is_empty() {
            true => Ok(()),
            false => ip4(&result)
                .map_err(|e| CniError::new(BAD_CONFIG, e.to_string()))
                .and_then(|ip| self.forward(ip)),
        };
        if let Err(failure) = forwarded {
            let undo = Invocation {
                command: "DEL".into(),
                ..self.call.clone()
            };
            let _ = self.unforward();
            let _ = undo.run(&self.delegate, None); // the first error is reported
            return Err(failure);
        }
        Ok(reduce_to_0_2_0(&result))
    }

    fn del(&self) -> Result<Value, CniError> {
        // Release the address even if the rules cannot be removed.
        let rules = self.unforward();
        let result = self.call.run(&self.delegate, None)?;
        rules.map(|()| result)
    }

    /// Returns the comment that identifies the rules of a container.
    fn comment(&self) -> String {
        format!("container_id: {}", self.call.container)
    }

    fn forward(&self, ip: Ipv4Addr) -> Result<(), CniError> {
        let chain = self.chain.as_str();
        if iptables(&["-N", chain]).is_err() {
            iptables(&["-L", chain, "-n"])?; // the chain must exist then
        }
        let local = ["-m", "addrtype", "--dst-type", "LOCAL", "-j", chain];
        for from in [&["PREROUTING"][..], &["OUTPUT", "!", "-d", "127.0.0.0/8"]] {
            let rule = [from, &local].concat();
            if iptables(&[&["-C"], &rule[..]].concat()).is_err() {
                iptables(&[&["-A"], &rule[..]].concat())?;
            }
        }
        // Packets from these devices are not forwarded.
        for device in &self.exclude {
            let rule = [chain, "-i", device, "-j", "RETURN"];
            if iptables(&[&["-C"], &rule[..]].concat()).is_err() {
                iptables(&[&["-I"], &rule[..]].concat())?;
            }
        }
        for port in &self.ports {
            let (host, to) = (port.host.to_string(), format!("{ip}:{}", port.container));
            let comment = self.comment();
            let mut rule = vec!["-A", chain];
            rule.extend(["-p", &port.protocol, "-m", &port.protocol, "--dport", &host]);
            rule.extend([
                "-m",
                "comment",
                "--comment",
                &comment,
                "-j",
                "DNAT",
                "--to-destination",
                &to,
            ]);
            iptables(&rule)?;
        }
        Ok(())
    }

    fn unforward(&self) -> Result<(), CniError> {
        let Ok(rules) = iptables(&["-S", &self.chain]) else {
            return Ok(());
        }; // no chain, no rules
        let comment = format!("\"{}\"", self.comment());
        for rule in rules.lines().filter(|rule| rule.contains(&comment)) {
            let words: Vec<String> = rule
                .replace(&comment, "\u{0}")
                .split(' ')
                .map(str::to_owned)
                .collect();
            let full = self.comment();
            let mut delete: Vec<&str> = words
                .iter()
                .map(|w| if w == "\u{0}" { &full } else { w.as_str() })
                .collect();
            delete[0] = "-D";
            iptables(&delete)?;
        }
        Ok(())
    }
}

/// Reduces a delegate's result to the members that Mesos's plugin passes on. It knows CNI 0.2.0
/// only, so addresses in newer results are lost.
fn reduce_to_0_2_0(result: &Value) -> Value {
    let known =
        ["cniVersion", "ip4", "ip6", "dns"].map(|key| (key.to_owned(), result[key].clone()));
    Value::Object(
        known
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect(),
    )
}

fn iptables(arguments: &[&str]) -> Result<String, CniError> {
    let output = Command::new("iptables")
        .args(["-w", "-t", "nat"])
        .args(arguments)
        .output();
    let output =
        output.map_err(|error| CniError::new(IPTABLES, format!("running iptables: {error}")))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(CniError::new(
            IPTABLES,
            format!("iptables {}: {}", arguments.join(" "), errors.trim()),
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
