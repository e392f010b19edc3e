use std::time::{Duration, SystemTime};

use overlay_host::docker::observed::{Endpoint, ExistingNetwork};
use overlay_host::reserved::Containers;

use super::super::view::MesosContainer;
use super::*;

const ID: &str = "b14e8b1a-0000-4000-8000-7d0a3b1c5f00";
const GONE: &str = "b14e8b1a-0000-4000-8000-7d0a3b1c5f99";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Returns a host with a container of Mesos and one of Docker, and nothing wrong.
fn healthy() -> HostView {
    let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    let overlay = HostOverlay {
        subnets: nets(&["9.0.0.0/24", "fd00::/80"]),
        mesos: nets(&["9.0.0.0/25", "fd00::/81"]),
        docker: nets(&["9.0.0.128/25"]),
    };
    let docker = ExistingNetwork {
        name: "dcos".into(),
        labelled: true,
        endpoints: vec![Endpoint {
            container: "web".into(),
            addresses: vec!["9.0.0.130/25".parse().unwrap()],
        }],
        ..ExistingNetwork::default()
    };
    HostView {
        agent: Some([10, 0, 0, 1].into()),
        overlays: [("dcos".to_owned(), overlay)].into(),
        mentioned: Vec::new(),
        files: [(
            "dcos".to_owned(),
            vec![file("9.0.0.2", ID), file("fd00::2", ID)],
        )]
        .into(),
        known: Containers {
            booted: Some(SystemTime::UNIX_EPOCH),
            known: [ID.to_owned()].into(),
        },
        mesos: Some(vec![MesosContainer {
            id: ID.into(),
            addresses: vec![
                ("dcos".into(), ip("9.0.0.2")),
                ("dcos".into(), ip("fd00::2")),
            ],
        }]),
        docker: vec![docker],
        bridges: ["m-dcos".to_owned(), "d-dcos".to_owned()].into(),
        cni_names: ["dcos".to_owned()].into(),
        now: SystemTime::now(),
    }
}

/// Returns a file of host-local that is an hour old.
fn file(address: &str, container: &str) -> Reserved {
    Reserved {
        ip: ip(address),
        name: address.into(),
        container: container.into(),
        modified: SystemTime::now() - Duration::from_secs(3600),
        inode: 1,
    }
}

fn compared(view: &HostView, answering: &[&str]) -> Compared {
    let defined = ["dcos".to_owned()].into();
    let answering = answering.iter().map(|address| ip(address)).collect();
    compare(view, Path::new("/cni"), Some(&defined), &answering)
}

/// Asserts that a change of the healthy host is found as exactly these codes and subjects.
#[track_caller]
fn assert_finds(change: impl FnOnce(&mut HostView), expected: &[(&str, &str)]) -> Compared {
    let mut view = healthy();
    change(&mut view);
    let compared = compared(&view, &[]);
    let found: Vec<(&str, &str)> = compared
        .findings
        .iter()
        .map(|finding| (finding.code, finding.subject.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(found, expected, "{:?}", compared.findings);
    compared
}

fn files(view: &mut HostView) -> &mut Vec<Reserved> {
    view.files.get_mut("dcos").unwrap()
}

#[test]
fn a_healthy_host_has_no_findings() {
    let compared = assert_finds(|_| {}, &[]);
    assert_eq!((compared.addresses, compared.containers), (3, 2));
    // A container that starts right now, and files of others.
    assert_finds(
        |view| {
            files(view).push(Reserved {
                modified: SystemTime::now(),
                ..file("9.0.0.3", GONE)
            });
            view.files
                .insert("podman".into(), vec![file("10.88.0.2", "0123456789abcdef")]);
            view.files
                .insert("other".into(), vec![file("10.88.0.2", GONE)]);
            view.cni_names.insert("other".into());
            view.bridges.insert("m-lan".into());
            view.docker.push(ExistingNetwork {
                name: "bridge".into(),
                driver: "bridge".into(),
                ..ExistingNetwork::default()
            });
            view.mesos.as_mut().unwrap().push(MesosContainer {
                id: "on the host's network".into(),
                addresses: vec![(String::new(), ip("10.0.0.1"))],
            });
        },
        &[],
    );
}

#[test]
fn reserved_addresses_without_containers_are_leaked() {
    let compared = assert_finds(
        |view| files(view).extend([file("9.0.0.9", GONE), file("fd00::9", GONE)]),
        &[("leaked-addresses", "dcos")],
    );
    assert_eq!(compared.leaked.len(), 2);
    assert!(
        compared.findings[0]
            .message
            .starts_with("2 addresses are reserved"),
        "{compared:?}"
    );
    // Somebody answers.
    let mut view = healthy();
    files(&mut view).push(file("9.0.0.9", GONE));
    let answered = super::tests::compared(&view, &["9.0.0.9"]);
    assert!(
        answered.findings.is_empty() && answered.leaked.is_empty(),
        "{answered:?}"
    );
    assert_eq!(answered.unexplained, [ip("9.0.0.9")]);
}

#[test]
fn two_containers_with_one_address_are_found() {
    let second = || MesosContainer {
        id: "second".into(),
        addresses: vec![("dcos".into(), ip("9.0.0.2"))],
    };
    let compared = assert_finds(
        |view| view.mesos.as_mut().unwrap().push(second()),
        &[("double-address", "9.0.0.2")],
    );
    let message = &compared.findings[0].message;
    assert!(
        message.contains(ID) && message.contains(" and container second of Mesos"),
        "{message}"
    );
    assert_finds(
        |view| {
            view.docker[0].endpoints[0].addresses = vec!["9.0.0.2/25".parse().unwrap()];
            view.overlays.get_mut("dcos").unwrap().docker = vec!["9.0.0.0/24".parse().unwrap()];
        },
        &[("double-address", "9.0.0.2")],
    );
    // The file says that the address belongs to another one, which exists.
    assert_finds(
        |view| {
            view.known.known.insert("third".into());
            files(view)[0].container = "third".into();
        },
        &[("double-address", "9.0.0.2")],
    );
}

#[test]
fn an_address_without_a_file_of_its_container_is_found() {
    let message = "container b14e8b1a-0000-4000-8000-7d0a3b1c5f00 of Mesos has this address of dcos, and /cni/dcos has no file that reserves it";
    let compared = assert_finds(
        |view| drop(files(view).remove(0)),
        &[("address-not-reserved", "9.0.0.2")],
    );
    assert_eq!(compared.findings[0].message, message);
    // The file of a container that is gone is the only thing that keeps the address.
    let compared = assert_finds(
        |view| files(view)[0].container = GONE.into(),
        &[("address-not-reserved", "9.0.0.2")],
    );
    assert!(compared.leaked.is_empty(), "it must not be given back");
}

#[test]
fn addresses_outside_of_the_subnets_are_found() {
    assert_finds(
        |view| {
            view.mesos.as_mut().unwrap()[0].addresses[0].1 = ip("9.0.7.2");
            files(view)[0] = file("9.0.7.2", ID);
        },
        &[("address-outside-subnet", "9.0.7.2")],
    );
    assert_finds(
        |view| view.docker[0].endpoints[0].addresses = vec!["9.0.0.7/25".parse().unwrap()],
        &[("address-outside-subnet", "9.0.0.7")],
    );
    // Of a former subnet, and of Docker's half.
    let compared = assert_finds(
        |view| files(view).extend([file("9.0.7.2", GONE), file("9.0.0.200", GONE)]),
        &[("reservations-outside-subnet", "dcos")],
    );
    assert!(compared.leaked.is_empty(), "{compared:?}");
}

#[test]
fn what_is_left_of_removed_overlays_is_found() {
    let old = || ExistingNetwork {
        name: "old".into(),
        labelled: true,
        ..ExistingNetwork::default()
    };
    assert_finds(
        |view| view.docker.push(old()),
        &[("orphaned-network", "old")],
    );
    assert_finds(
        |view| {
            view.docker.push(old());
            view.bridges.insert("d-old".into());
            view.mentioned =
                vec!["overlay old was removed, and 1 container on d-old still uses it".into()];
        },
        &[],
    );
    assert_finds(
        |view| {
            view.bridges.insert("m-old".into());
            view.files.insert("old".into(), Vec::new());
        },
        &[("orphaned-network", "old")],
    );
    let compared = assert_finds(
        |view| drop(view.files.insert("old".into(), vec![file("8.0.0.2", GONE)])),
        &[("orphaned-reservations", "old")],
    );
    assert!(
        compared.findings[0]
            .message
            .starts_with("/cni/old has 1 file of host-local"),
        "{compared:?}"
    );
    // It is not known what is defined.
    let mut view = healthy();
    view.docker.push(old());
    let unknown = compare(&view, Path::new("/cni"), None, &BTreeSet::new());
    assert!(unknown.findings.is_empty(), "{unknown:?}");
}

#[test]
fn names_are_words_of_sentences() {
    assert!(mentions("overlay old was removed", "old"));
    assert!(mentions("Docker network old.", "old"));
    assert!(!mentions("overlay old-2 was removed", "old"));
    assert!(!mentions("the older one", "old"));
}

/// host-local's files can be for root only.
#[test]
fn files_that_cannot_be_read_are_no_finding() {
    let compared = assert_finds(
        |view| {
            files(view)
                .iter_mut()
                .for_each(|file| file.container.clear())
        },
        &[],
    );
    assert_eq!((compared.unreadable, compared.addresses), (2, 3));
}

/// A container can end while the files are read.
#[test]
fn files_that_went_meanwhile_are_not_counted() {
    let compared = assert_finds(
        |view| {
            let mut gone = file("9.0.0.9", "");
            gone.inode = 0;
            files(view).push(gone);
        },
        &[],
    );
    assert_eq!((compared.unreadable, compared.addresses), (0, 3));
}
