//! The name server's data: the events of a master, and the snapshot on disk. Whatever comes, the
//! zones are those of the table, and a snapshot leads to the same records.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use overlay_dns::cluster::Cluster;
use overlay_dns::events;
use overlay_dns::records::Rules;
use overlay_dns::snapshot;
use overlay_dns::zone::{Batch, Knowledge, Record, Soa, Zones, parse_name, serial_at};

use crate::is_line;

fn rules() -> Rules {
    Rules {
        domains: vec![parse_name("dcos.thisdcos.directory").unwrap()],
        ranges: vec!["9.0.0.0/8".parse().unwrap(), "fd01:b::/64".parse().unwrap()],
    }
}

fn zones() -> Zones {
    let mut zones = Zones::default();
    for apex in ["dcos.thisdcos.directory", "9.in-addr.arpa", "ip6.arpa"] {
        let name = |text| parse_name(text).unwrap();
        let soa = Soa::new(name("ns.d"), name("h.d"), serial_at(UNIX_EPOCH));
        zones.insert(name(apex), soa, UNIX_EPOCH);
    }
    zones.set_knowledge(Knowledge::Complete);
    zones
}

fn records(zones: &Zones) -> BTreeSet<Record> {
    let records = zones.iter().flat_map(overlay_dns::zone::Zone::records);
    let records = records.map(|(owner, data)| Record {
        owner: owner.clone(),
        data: data.clone(),
    });
    records.collect()
}

/// Runs a stream of events.
pub(crate) fn events(data: &[u8]) {
    let mut cluster = Cluster::new(rules());
    let mut zones = zones();
    let mut now = Duration::ZERO;
    let outcome = events::read_all(data, |item| {
        now += Duration::from_secs(7);
        cluster.handle(item, now);
        cluster.tick(now);
        zones.apply(cluster.take_batch(), UNIX_EPOCH);
    });
    if let Err(error) = outcome {
        assert!(is_line(&error.to_string()), "{error}");
    }
    let content = snapshot::encode(&cluster, &zones, &[], UNIX_EPOCH);
    let kept = snapshot::decode(&content, &rules());
    let mut kept = kept.unwrap_or_else(|error| panic!("{error}")).cluster;
    let mut again = self::zones();
    again.apply(kept.take_batch(), UNIX_EPOCH);
    assert_eq!(
        records(&zones),
        records(&again),
        "the snapshot has other records"
    );
    let counts = cluster.counts();
    assert!(counts.named <= counts.tasks && counts.left_out <= counts.named);
    assert!(cluster.left_out().all(|task| is_line(&task.task)));
    // As many claims end as tasks have.
    let kept = snapshot::decode(&content, &rules());
    let mut kept = kept.unwrap_or_else(|error| panic!("{error}")).cluster;
    let everything = Batch {
        removed: kept.take_batch().added,
        added: Vec::new(),
    };
    zones.apply(everything, UNIX_EPOCH);
    assert_eq!(
        records(&zones),
        BTreeSet::new(),
        "a record has more claims than tasks"
    );
}

/// Runs the content of a snapshot, also with a last line that fits.
pub(crate) fn snapshot(data: &[u8]) {
    let mut lines = data.to_vec();
    if !lines.ends_with(b"\n") {
        lines.push(b'\n');
    }
    let count = lines.iter().filter(|byte| **byte == b'\n').count();
    let end = format!(
        "{{\"lines\":{count},\"crc32\":{}}}\n",
        crc32fast::hash(&lines)
    );
    lines.extend_from_slice(end.as_bytes());
    for content in [data, &lines] {
        match snapshot::decode(content, &rules()) {
            Err(error) => assert!(is_line(&error), "{error}"),
            Ok(mut kept) => {
                let mut zones = zones();
                let again = snapshot::encode(&kept.cluster, &zones, &kept.ranges, kept.time);
                zones.apply(kept.cluster.take_batch(), UNIX_EPOCH);
                let mut other = self::zones();
                let kept = snapshot::decode(&again, &rules());
                let mut kept = kept.unwrap_or_else(|error| panic!("{error}"));
                other.apply(kept.cluster.take_batch(), UNIX_EPOCH);
                assert_eq!(records(&zones), records(&other));
            }
        }
    }
}
