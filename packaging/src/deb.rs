//! Debian packages, written by cargo-deb.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::contents::File;
use crate::packages::SUMMARY;
use crate::{run, tools};

/// Writes a package of these files, which are in a directory beside it meanwhile.
pub fn write(files: &[&File], version: &str, date: u64, package: &Path) -> Result<()> {
    let work = package.with_extension("work");
    let _ = fs::remove_dir_all(&work); // of an interrupted run
    stage(files, date, &work)?;
    fs::write(work.join("Cargo.toml"), manifest(files, version)?)?;
    // Cargo accepts a manifest only beside a target.
    fs::write(work.join("lib.rs"), "")?;
    let mut tool = tools::DEB.command()?;
    tool.args(["--quiet", "--no-build", "--no-strip", "--output"])
        .arg(std::path::absolute(package)?)
        .current_dir(&work)
        .env("SOURCE_DATE_EPOCH", date.to_string())
        .env_remove("CARGO_BUILD_TARGET");
    run::output(&mut tool).with_context(|| format!("making {}", package.display()))?;
    fs::remove_dir_all(&work).context("removing temporary files")
}

/// Writes the files below `stage`.
fn stage(files: &[&File], date: u64, work: &Path) -> Result<()> {
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(date);
    for file in files {
        let path = work.join("stage").join(&file.path);
        fs::create_dir_all(path.parent().context("a file without a directory")?)?;
        fs::write(&path, &file.content).with_context(|| format!("writing {}", path.display()))?;
        fs::File::options()
            .write(true)
            .open(&path)?
            .set_modified(date)?;
    }
    Ok(())
}

/// Returns the manifest that cargo-deb reads: what `packaging/Cargo.toml` says of the package, and
/// the list of files.
fn manifest(files: &[&File], version: &str) -> Result<String> {
    let source: Table = include_str!("../Cargo.toml").parse()?;
    let workspace: Table = include_str!("../../Cargo.toml").parse()?;
    let mut metadata = table(&source, &["package", "metadata"])?.clone();
    let assets = files.iter().map(|file| {
        let source = format!("stage/{}", file.path);
        Value::from(vec![source, file.path.clone(), format!("{:o}", file.mode)])
    });
    insert(&mut metadata, "assets", assets.collect())?;
    let conf = files.iter().filter(|file| file.config);
    let conf = conf.map(|file| Value::from(format!("/{}", file.path)));
    insert(&mut metadata, "conf-files", conf.collect())?;

    let mut package = Table::new();
    for key in ["edition", "license", "repository"] {
        let value = &table(&workspace, &["workspace", "package"])?[key];
        package.insert(key.to_owned(), value.clone());
    }
    package.insert("description".to_owned(), SUMMARY.into());
    package.insert("name".to_owned(), "mesos-overlay".into());
    package.insert("version".to_owned(), version.into());
    package.insert("metadata".to_owned(), metadata.into());
    let mut manifest = Table::new();
    manifest.insert("package".to_owned(), package.into());
    let library = Table::from_iter([("path".to_owned(), "lib.rs".into())]);
    manifest.insert("lib".to_owned(), library.into());
    // Not a member of the workspace around it.
    manifest.insert("workspace".to_owned(), Table::new().into());
    Ok(manifest.to_string())
}

fn table<'t>(mut table: &'t Table, path: &[&str]) -> Result<&'t Table> {
    for key in path {
        let value = table.get(*key).and_then(Value::as_table);
        table = value.with_context(|| format!("Cargo.toml has no {}", path.join(".")))?;
    }
    Ok(table)
}

fn insert(metadata: &mut Table, key: &str, list: Vec<Value>) -> Result<()> {
    let table = metadata.get_mut("deb").and_then(Value::as_table_mut);
    let table = table.context("packaging/Cargo.toml has no metadata of cargo-deb")?;
    table.insert(key.to_owned(), list.into());
    Ok(())
}
