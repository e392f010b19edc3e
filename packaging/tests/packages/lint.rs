//! lintian and rpmlint find nothing. Exceptions are explained in `packaging/debian/lintian-overrides`
//! and `packaging/rpm/rpmlint.toml`.

use std::process::Command;

use testbed::paths;

#[test]
fn lintian_finds_nothing() {
    let Some(kept) = crate::packages("lintian_finds_nothing") else {
        return;
    };
    let mut lintian = Command::new("lintian");
    lintian
        .args(["--no-cfg", "--allow-root", "--display-info", "--pedantic"])
        .args(["--fail-on", "error,warning,info,pedantic"])
        .arg(&kept.packages.deb);
    let output = lintian.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.is_empty(), "{text}");
}

#[test]
fn rpmlint_finds_nothing() {
    let Some(kept) = crate::packages("rpmlint_finds_nothing") else {
        return;
    };
    let mut rpmlint = Command::new("rpmlint");
    rpmlint
        .arg("--config")
        .arg(paths::workspace().join("packaging/rpm/rpmlint.toml"))
        .arg(&kept.packages.rpm);
    let output = rpmlint.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let clean = text.contains(" 0 errors, 0 warnings");
    assert!(output.status.success() && clean, "{text}");
}
