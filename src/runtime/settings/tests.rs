use super::*;

use tempfile::TempDir;

const NETWORK: &str = r#"{"vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00",
                          "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}"#;

/// Directory with configuration files. `$D` in their text stands for its path.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text.replace("$D", self.0.path().to_str().unwrap())).unwrap();
        path
    }

    fn master(&self, more: &str) -> String {
        self.write("master.json", &format!(r#"{{"network": {NETWORK}{more}}}"#))
    }

    fn agent(&self, more: &str) -> String {
        self.write("agent.json", &format!(r#"{{"cni_dir": "/cni"{more}}}"#))
    }
}

fn environment(zk: &str, quorum: &str, master: &str) -> Environment {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Environment {
        zk: some(zk),
        quorum: some(quorum),
        master: some(master),
        docker_host: None,
        zk_flag: false,
        checks_senders: true,
    }
}

fn complaint<T>(result: Result<T, ConfigError>) -> String {
    let line = result.err().expect("an error").to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn the_parameter_has_the_path_of_the_file() {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let given = [pair("other", "x"), pair("agent_config", "/a.json")];
    assert_eq!(config_path(Role::Agent, &given).unwrap(), "/a.json");
    let twice = [
        pair("agent_config", "/a.json"),
        pair("agent_config", "/b.json"),
    ];
    assert_eq!(
        config_path(Role::Agent, &twice).unwrap(),
        "/b.json",
        "the last one counts, as in files"
    );
    for given in [&given[..], &[], &[pair("master_config", "")]] {
        assert_eq!(
            complaint(config_path(Role::Master, given)),
            "module parameters: master_config: missing; give it, in the file behind Mesos's \
             flag --modules, the path of the JSON configuration"
        );
    }
}

#[test]
fn the_error_names_an_unreadable_file() {
    let files = Files::new();
    let absent = files.path("absent.json");
    let line = complaint(master(&absent, &Environment::default()));
    assert!(
        line.starts_with(&format!("{absent}: cannot be read: No such file")),
        "{line}"
    );
    assert!(
        line.ends_with("correct the module's parameter master_config"),
        "{line}"
    );
    let line = complaint(agent(
        files.0.path().to_str().unwrap(),
        &Environment::default(),
    ));
    let expected = "cannot be read: it is a directory and not a regular file; ";
    assert!(line.contains(expected), "{line}");
    fs::write(files.path("latin1.json"), b"{\"\xe9\": 1}").unwrap();
    let line = complaint(agent(&files.path("latin1.json"), &Environment::default()));
    assert!(line.contains("as in Latin-1"), "{line}");
    fs::write(
        files.path("bom.json"),
        b"\xef\xbb\xbf{\"cni_dir\": \"/cni\", \"master\": \"a:1\"}",
    )
    .unwrap();
    assert!(agent(&files.path("bom.json"), &Environment::default()).is_ok());
}

/// A reader of a FIFO would wait for ever, and Mesos with it.
#[test]
fn only_regular_files_and_links_to_them_are_read() {
    let files = Files::new();
    let fifo = files.path("fifo");
    let mkfifo = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(mkfifo.unwrap().success());
    let line = complaint(master(&fifo, &Environment::default()));
    let expected = "cannot be read: it is a FIFO and not a regular file; make the file readable";
    assert!(line.contains(expected), "{line}");
    let file = files.agent(&format!(r#", "master": "file://{fifo}""#));
    let line = complaint(agent(&file, &Environment::default()));
    assert!(
        line.contains("it is a FIFO and not a regular file"),
        "{line}"
    );
    // DC/OS links configuration files from the directory of a package.
    files.write("zk", "zk://z:2181/mesos");
    let file = files.agent(r#", "master": "file://$D/zk""#);
    let link = files.path("link.json");
    std::os::unix::fs::symlink(file, &link).unwrap();
    let settings = agent(&link, &Environment::default()).unwrap();
    assert_eq!(settings.detect, "zk://z:2181/mesos");
    fs::File::create(files.path("zk"))
        .unwrap()
        .set_len(URL_LIMIT + 1)
        .unwrap();
    let line = complaint(agent(&link, &Environment::default()));
    assert!(
        line.contains("cannot be read: it has more than 65536 bytes"),
        "{line}"
    );
}

#[test]
fn a_single_master_has_one_replica_and_no_election() {
    let files = Files::new();
    let settings = master(
        &files.master(r#", "replicated_log_dir": "$D/deep/log""#),
        &Environment::default(),
    )
    .unwrap();
    assert_eq!(settings.detect, None);
    let path = files.0.path().join("deep/log/overlay_replicated_log");
    assert!(path.is_dir(), "made beforehand");
    assert_eq!(
        settings.log,
        Some(LogSettings {
            quorum: 1,
            path,
            zookeeper: None
        })
    );

    let settings = master(&files.master(""), &Environment::default()).unwrap();
    assert_eq!((settings.log, settings.detect), (None, None));
}

#[test]
fn a_master_prefers_zookeeper_of_its_file_to_the_environment() {
    let files = Files::new();
    let environment = environment("zk://e:1/env", "3", "");
    let log = r#", "replicated_log_dir": "$D/log""#;

    let settings = master(&files.master(log), &environment).unwrap();
    assert_eq!(settings.detect.as_deref(), Some("zk://e:1/env"));
    let log_settings = settings.log.unwrap();
    assert_eq!(log_settings.quorum, 3);
    assert_eq!(
        log_settings.zookeeper,
        Some(ZooKeeperSettings {
            servers: "e:1".into(),
            path: "/env/overlay_log_replicas".into(),
            session_timeout: Duration::from_secs(10),
            credentials: None
        })
    );

    files.write("url", "zk://u:p@f:1,g:2/file\n");
    let zk =
        format!(r#"{log}, "zk": {{"url": "file://$D/url", "quorum": 2, "session_timeout": 20}}"#);
    let settings = master(&files.master(&zk), &environment).unwrap();
    assert_eq!(
        settings.detect.as_deref(),
        Some("zk://e:1/env"),
        "that is where Mesos's masters meet"
    );
    let log_settings = settings.log.unwrap();
    assert_eq!(log_settings.quorum, 2);
    assert_eq!(
        log_settings.zookeeper,
        Some(ZooKeeperSettings {
            servers: "f:1,g:2".into(),
            path: "/file/overlay_log_replicas".into(),
            session_timeout: Duration::from_secs(20),
            credentials: Some("u:p".into())
        })
    );

    let settings = master(&files.master(&zk), &Environment::default()).unwrap();
    assert_eq!(settings.detect.as_deref(), Some("zk://u:p@f:1,g:2/file"));
}

#[test]
fn urls_that_mesos_takes_are_taken() {
    let files = Files::new();
    let file = files.master(r#", "replicated_log_dir": "$D/log""#);
    for (odd, servers) in [
        ("zk://h:2181,/mesos", "h:2181"),
        ("zk://a:2181, b:2181/mesos", "a:2181,b:2181"),
        ("zk://user@h:2181/mesos", "h:2181"),
    ] {
        let at = if odd.contains('@') { "user@" } else { "" };
        let plain = format!("zk://{at}{servers}/mesos");
        let settings = master(&file, &environment(odd, "1", "")).unwrap();
        assert_eq!(settings.detect.as_deref(), Some(plain.as_str()), "{odd}");
        let zookeeper = settings.log.unwrap().zookeeper.unwrap();
        assert_eq!(zookeeper.servers, servers);
        let settings = agent(&files.agent(""), &environment(odd, "", "")).unwrap();
        assert_eq!(settings.detect, plain);
    }
}

#[test]
fn errors_of_zookeeper_and_the_log_are_one_line() {
    let files = Files::new();
    let file = files.master(r#", "replicated_log_dir": "$D/log""#);
    let line = complaint(master(&file, &environment("zk://e:1/env", "", "")));
    assert!(
        line.starts_with("environment: MESOS_QUORUM: missing"),
        "{line}"
    );
    let line = complaint(master(&file, &environment("file:///nonexistent", "1", "")));
    assert!(
        line.starts_with("environment: MESOS_ZK: \"file:///nonexistent\" cannot be read"),
        "{line}"
    );
    let url = files.write("url", "zk://u:secret@e/env");
    let line = complaint(master(
        &file,
        &environment(&format!("file://{url}"), "1", ""),
    ));
    assert!(
        line.starts_with("environment: MESOS_ZK: \"zk://***@e/env\" has the server \"e\""),
        "{line}"
    );

    let line = complaint(master(&file, &environment("zk://e:1/", "1", "")));
    assert!(
        line.starts_with("environment: MESOS_ZK: \"zk://e:1/\" has no path"),
        "{line}"
    );

    files.write("taken", "");
    let file = files.master(r#", "replicated_log_dir": "$D/taken""#);
    let line = complaint(master(&file, &Environment::default()));
    assert!(
        line.starts_with(&format!("{file}: replicated_log_dir: \"")),
        "{line}"
    );
    assert!(line.contains("cannot be used: "), "{line}");
}

#[test]
fn an_agent_finds_its_master_in_file_then_environment() {
    let files = Files::new();
    let configured = files.agent(r#", "master": "10.0.0.1:5050""#);
    let environment = environment("zk://e:1/env", "", "10.0.0.2:5050");
    assert_eq!(
        agent(&configured, &environment).unwrap().detect,
        "10.0.0.1:5050"
    );
    let bare = files.agent("");
    assert_eq!(agent(&bare, &environment).unwrap().detect, "10.0.0.2:5050");
    for spelt in ["master@10.0.0.2:5050", " 10.0.0.2:5050\n"] {
        let environment = Environment {
            master: Some(spelt.to_owned()),
            ..environment.clone()
        };
        assert_eq!(agent(&bare, &environment).unwrap().detect, spelt.trim());
    }
    for root in ["zk://e:1", "zk://e:1/"] {
        let environment = Environment {
            master: Some(root.to_owned()),
            ..environment.clone()
        };
        let line = complaint(agent(&bare, &environment));
        let start = format!(
            "environment: MESOS_MASTER: \"{root}\" has no path, and Mesos masters are not elected"
        );
        assert!(line.starts_with(&start), "{line}");
    }
    let environment = Environment {
        master: None,
        ..environment
    };
    assert_eq!(agent(&bare, &environment).unwrap().detect, "zk://e:1/env");
    assert!(complaint(agent(&bare, &Environment::default())).contains(
        "agent.json: master: missing, and neither MESOS_MASTER nor MESOS_ZK is in the environment; write host:port"
    ));
}

#[test]
fn an_agent_finds_its_engine_in_file_then_environment() {
    let files = Files::new();
    let socket = |config: &str, docker_host: Option<&str>| {
        let master = environment("", "", "10.0.0.1:5050");
        let environment = Environment {
            docker_host: docker_host.map(str::to_owned),
            ..master
        };
        agent(&files.agent(config), &environment)
            .unwrap()
            .config
            .docker_socket
    };
    let configured = r#", "docker_socket": "/run/file.sock""#;
    let host = Some("unix:///run/environment.sock");
    assert_eq!(socket(configured, host), Some("/run/file.sock".into()));
    assert_eq!(socket("", host), Some("/run/environment.sock".into()));
    assert_eq!(socket("", None), None);
    // The variable may be meant for other programs, so Mesos starts.
    assert_eq!(socket("", Some("tcp://10.0.0.9:2375")), None);
}

#[test]
fn an_agent_reads_the_file_that_names_its_master() {
    let files = Files::new();
    let url = files.write("url", " 10.0.0.1:5050\n");
    let given = |master: &str| agent(&files.agent(""), &environment("", "", master));
    assert_eq!(
        given(&format!("file://{url}")).unwrap().detect,
        "10.0.0.1:5050"
    );
    files.write("url", "10.0.0.1");
    let line = complaint(given(&format!("file://{url}")));
    assert!(
        line.starts_with("environment: MESOS_MASTER: \"10.0.0.1\" has no port; write"),
        "{line}"
    );
}

#[test]
fn all_mistakes_outside_of_the_file_are_reported() {
    let files = Files::new();
    files.write("taken", "");
    let file = files.master(r#", "replicated_log_dir": "$D/taken""#);
    let error = master(&file, &environment("e:1", "x", "")).unwrap_err();
    let fields: Vec<_> = error.mistakes().iter().map(|m| m.field.as_str()).collect();
    assert_eq!(
        fields,
        ["MESOS_ZK", "replicated_log_dir", "MESOS_QUORUM"],
        "{error}"
    );

    let file = files.master(r#", "replicated_log_dir": "$D/log""#);
    let error = master(&file, &environment("e:1", "x", "")).unwrap_err();
    let fields: Vec<_> = error.mistakes().iter().map(|m| m.field.as_str()).collect();
    assert_eq!(fields, ["MESOS_ZK", "MESOS_QUORUM"], "{error}");
}
