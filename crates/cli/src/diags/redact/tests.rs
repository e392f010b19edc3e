use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn redacted(text: &str) -> String {
    Redactor::default().text(text).text
}

#[test]
fn secrets_are_removed_where_they_stand() {
    let table = [
        (
            "zk://user:pw@h1:2181,h2:2181/mesos",
            "zk://***@h1:2181,h2:2181/mesos",
        ),
        (
            r#""zk:\/\/user:p@w@h1:2181\/mesos""#,
            r#""zk:\/\/***@h1:2181\/mesos""#,
        ),
        ("Authorization: Basic dXNlcjpwdw==", "Authorization: ***"),
        ("sent Bearer abc.def-ghi1", "sent Bearer ***"),
        ("uses basic authentication", "uses basic authentication"),
        ("password=hunter2 next", "password=***"),
        ("https_proxy=u:p@w@proxy:3128", "https_proxy=***@proxy:3128"),
        ("HTTP_PROXY=http://u:p@h:1", "HTTP_PROXY=http://***@h:1"),
        (
            "--docker_config=/etc/docker/config.json",
            "--docker_config=/etc/docker/config.json",
        ),
        ("--credential=/dGhpcyBp/cyBh1HNl", "--credential=***"),
        ("--jwt_secret_key=/abcdefgh", "--jwt_secret_key=***"),
        ("--jwt_secret_key=/abc/defgh=", "--jwt_secret_key=***"),
        (
            "--http_credentials=/proc/1/stat",
            "--http_credentials=/proc/1/stat",
        ),
        (
            "--http_credentials=/etc/mesos/c.json",
            "--http_credentials=/etc/mesos/c.json",
        ),
        (
            r#"--credentials={"credentials": [{"secret": "x"}]}"#,
            "--credentials=***",
        ),
        (
            r#"{\"secret\":\"a b\",\"x\":1}"#,
            r#"{\"secret\":\"***\",\"x\":1}"#,
        ),
        ("auth_key_file: /etc/key", "auth_key_file: /etc/key"),
        ("--authenticate_agents=true", "--authenticate_agents=true"),
        (
            "  private key: wNn0fI5D2ehc/wyZwTnbd9PlQ5vzQ0F3S8ruxNoFqUk=",
            "  private key: ***",
        ),
        (
            "peer wNn0fI5D2ehc/wyZwTnbd9PlQ5vzQ0F3S8ruxNoFqUk= up",
            "peer *** up",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\nend",
            "***\nend",
        ),
        (
            "/opt/mesosphere/packages/Mesos1/lib/mesos/modules/liboverlay",
            "/opt/mesosphere/packages/Mesos1/lib/mesos/modules/liboverlay",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(redacted(text), expected);
    }
    let id = "0123456789abcdef".repeat(4);
    assert_eq!(redacted(&format!("id {id}.")), "id 0123456789ab….");
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc_def";
    assert_eq!(redacted(jwt), MARK);
}

#[test]
fn secrets_of_the_host_are_removed_everywhere() {
    let mut redactor = Redactor::default();
    redactor.learn([
        "a/b\"c".to_owned(),
        "abc".to_owned(),
        "longer-secret".to_owned(),
    ]);
    let text = r#"x longer-secret abc a/b"c {"a":"a\/b\"c","b":"a/b\"c"}"#;
    let redacted = redactor.text(text);
    assert_eq!(redacted.text, r#"x *** abc *** {"a":"***","b":"***"}"#);
    assert_eq!(redacted.count, 4);
}

#[test]
fn json_is_searched_by_its_keys() {
    let modules = json!({"libraries": [{"file": "/x.so", "modules": [
        {"name": "auth", "parameters": [{"key": "login", "value": "hunter2"}]},
        {"name": "overlay", "parameters": [{"key": "agent_config", "value": "/a.json"}]},
    ]}]});
    let document = json!({
        "flags": {"modules": modules.to_string(), "credentials": "hunter2", "zk": "zk://u:hunter2@h/x",
            "credential": "/etc/c", "authenticate": "true", "docker_config": {"x": "hunter2"},
            "executor_environment_variables": "{\"A\": \"hunter2\"}", "ports": "[1-2, 4-5]",
            "pid": "[fd00::1]:5051", "acls": "{\"unfinished\": \"hunter2\""},
        "RegistryConfig": {"Mirrors": ["hunter2"]},
        "environment": [{"name": "DB_PASSWORD", "value": "hunter2"}],
        "numbers": {"token": 5, "secret": null},
    });
    let redacted = Redactor::default().json(&document.to_string()).unwrap();
    assert!(!redacted.text.contains("hunter2"), "{}", redacted.text);
    let value: Value = serde_json::from_str(&redacted.text).unwrap();
    assert_eq!(value["flags"]["credential"], "/etc/c");
    assert_eq!(value["flags"]["authenticate"], "true");
    assert_eq!(value["flags"]["ports"], "[1-2, 4-5]");
    assert_eq!(value["flags"]["pid"], "[fd00::1]:5051");
    assert_eq!(value["flags"]["acls"], MARK);
    assert_eq!(value["RegistryConfig"], MARK);
    assert_eq!(value["numbers"]["token"], MARK);
    let modules = value["flags"]["modules"].as_str().unwrap();
    assert!(
        modules.contains("/a.json") && modules.contains("/x.so"),
        "{modules}"
    );
    assert!(redacted.count >= 5, "{}", redacted.count);
}

#[test]
fn a_document_that_is_no_json_has_no_redacted_form() {
    let redactor = Redactor::default();
    let reason = redactor.json("{\"value\": \"hunter2\"").unwrap_err();
    assert!(reason.starts_with("it is no JSON") && !reason.contains("hunter2"));
    assert_eq!(redactor.json("\u{feff}[]").unwrap().text, "[]\n");
    assert_eq!(redactor.json("\n").unwrap().text, "\n");
}

/// Places of secrets in texts. `@` stands for the secret.
const PLACES: [&str; 34] = [
    "zk://user:@SECRET@@10.0.0.1:2181,10.0.0.2:2181/mesos",
    r#"{"url": "zk:\/\/user:@SECRET@@10.0.0.1:2181\/mesos"}"#,
    "https://@SECRET@@proxy:3128/",
    "Authorization: Basic @SECRET@",
    "authorization: bearer @SECRET@",
    "< Set-Cookie: session=@SECRET@; Path=/",
    "PASSWORD=@SECRET@",
    "export MESOS_SECRET='@SECRET@'",
    "db_password: @SECRET@",
    "--credentials={\"principal\": \"p\", \"secret\": \"@SECRET@\"}",
    r#"{"secret": "@SECRET@", "x": 1}"#,
    r#"I flags: --credential="{\"secret\":\"@SECRET@\"}" --x"#,
    r#"{"principal":"p","password":"@SECRET@"}"#,
    r#"{"key":"api_token","value":"@SECRET@"}"#,
    r#"{"parameters":[{"key":"any","value":"@SECRET@"}]}"#,
    r#"{"modules":"{\"libraries\":[{\"modules\":[{\"parameters\":[{\"key\":\"a\",\"value\":\"@SECRET@\"}]}]}]}"}"#,
    r#"{"RegistryConfig":{"a":{"b":["@SECRET@"]}}}"#,
    r#"{"Env":["AWS_SECRET_ACCESS_KEY=@SECRET@"]}"#,
    "wireguard.private_key = @SECRET@",
    "  preshared key: @SECRET@",
    "-----BEGIN RSA PRIVATE KEY-----\n@SECRET@\n-----END RSA PRIVATE KEY-----",
    "jwt=@SECRET@",
    r#"--docker_config={"auths":{"r":{"auth":"@SECRET@"}}}"#,
    r#"MESOS_DOCKER_CONFIG={"auths": {"r": {"other": "@SECRET@"}}}"#,
    r#"{"docker_config":"{\"auths\":{\"r\":{\"auth\":\"@SECRET@\"}}}"}"#,
    r#"{"MESOS_DOCKER_CONFIG":"{\"r\":{\"x\":\"@SECRET@\"}"}"#,
    r#"{"auths":{"r":{"x":"@SECRET@"}}}"#,
    r#"  "auth": "@SECRET@""#,
    r#"--executor_environment_variables={"A": "@SECRET@"}"#,
    r#"{"default_container_info":"{\"a\":[\"@SECRET@\"]}"}"#,
    "MYSQL_PASS=@SECRET@",
    "pgpwd: @SECRET@",
    "db_dsn=@SECRET@",
    "https_proxy=user:@SECRET@@proxy:3128",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A secret never comes out, wherever it stands and whatever is around it.
    #[test]
    fn no_planted_secret_comes_out(
        secret in "[A-Za-z0-9+/=_.!%~-]{8,50}",
        place in proptest::sample::select(&PLACES[..]),
        before in "[ -~\n]{0,40}",
        after in "[ -~\n]{0,40}",
    ) {
        let line = place.replace("@SECRET@", &secret);
        let found = |text: String| text.contains(&secret);
        let json = |text: &str| match Redactor::default().json(text) {
            Ok(redacted) => redacted.text,
            Err(reason) => reason,
        };
        prop_assert!(!found(json(&line)), "{line}");
        if line.starts_with('{') {
            let cut = line[..line.len() - 1].to_owned();
            for broken in [cut, format!("{line},"), format!("{line}{before}")] {
                prop_assert!(!found(json(&broken)), "{broken}");
                let inner = json!({"other": broken}).to_string();
                prop_assert!(!found(json(&inner)), "{inner}");
            }
            prop_assert!(!found(json(&format!("{before}{line}"))), "{before}{line}");
        }
        // A place that only JSON has is not known in a text.
        let is_json = serde_json::from_str::<Value>(place).is_ok() && (place.contains("parameters") || place.contains("Registry") || place.contains("\"value\""));
        if !is_json {
            let text = format!("{before}\n{line}\n{after}");
            let text = Redactor::default().text(&text).text;
            prop_assert!(!found(text.clone()), "{line}\n{text}");
        }
    }

    /// A secret that the host tells never comes out at all, nor does a key of 32 bytes.
    #[test]
    fn no_known_secret_comes_out(
        secret in "[!-~]{8,40}",
        around in "[ -~\n]{0,80}",
        bytes in proptest::array::uniform32(any::<u8>()),
    ) {
        use base64::Engine;
        let mut redactor = Redactor::default();
        redactor.learn([secret.clone()]);
        let key = base64::engine::general_purpose::STANDARD.encode(bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!("{around}{secret}{around} {key} {hex}\n");
        let document = json!({"a": [text], &secret: key}).to_string();
        for redacted in [redactor.text(&text), redactor.json(&document).unwrap()] {
            let json = json!(secret).to_string();
            for secret in [&secret, json.trim_matches('"'), &key, &hex] {
                prop_assert!(!redacted.text.contains(secret), "{secret} in {}", redacted.text);
            }
        }
    }

    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,300}") {
        let _ = Redactor::default().json(&text);
    }
}
