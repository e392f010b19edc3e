//! Names while masters are killed, and over restarts of the name server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testbed::cluster::Cluster;
use testbed::framework::{Framework, TaskSpec};

use crate::bed::{Answer, DOMAIN, LIMIT, SERVER, Server, run, setup, start};

/// Interval between two questions.
const INTERVAL: Duration = Duration::from_millis(100);

/// Waits until another master than this one leads Mesos, and all agents are with it.
fn wait_other_leader(cluster: &mut Cluster, old: &str, agents: f64) -> String {
    testbed::wait::until("another leading master", LIMIT, || {
        for master in cluster.masters() {
            if master.pid().is_none() || master.address().to_string() == old {
                continue;
            }
            let metrics = master.client().get("/metrics/snapshot")?.json()?;
            if metrics["master/elected"] == 1.0 && metrics["master/slaves_active"] == agents {
                return Ok(Some(master.address().to_string()));
            }
        }
        Ok(None)
    })
    .unwrap()
}

/// Asks for a name of a running task and one that does not exist, ten times a second, until `work`
/// is done. Panics at the first answer that is wrong.
fn asked_meanwhile<T>(server: &Server, name: &str, right: &Answer, work: impl FnOnce() -> T) -> T {
    let absent = format!("none.testbed.containerip.{DOMAIN}");
    let done = AtomicBool::new(false);
    let mut questions = 0;
    let result = thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut wrong = Vec::new();
            let mut questions = 0;
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                let answer = server.dig(name, "A").unwrap();
                if answer != *right {
                    wrong.push(answer);
                }
                let answer = server.dig(&absent, "A").unwrap();
                if answer.status != "NXDOMAIN" {
                    wrong.push(answer);
                }
                questions += 1;
                thread::sleep(INTERVAL.saturating_sub(start.elapsed()));
            }
            (wrong, questions)
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        let (wrong, asked) = asker.join().unwrap();
        assert!(wrong.is_empty(), "{} of {asked}: {wrong:?}", wrong.len());
        questions = asked;
        result
    });
    println!("{questions} questions, all right");
    assert!(questions > 10);
    result
}

#[test]
fn a_killed_leader_costs_no_wrong_answer() {
    let Some(setup) = setup("a_killed_leader_costs_no_wrong_answer", 3, 2) else {
        return;
    };
    let mut cluster = start(&setup);
    cluster.wait_replicas(LIMIT).unwrap();
    let zk = cluster.zookeeper().unwrap().url(None);
    let place = &cluster.agents[0];
    let mut server = Server::start(&cluster, place, SERVER, &["--master", &zk]);
    server.wait_ready();
    let leader = cluster.wait_leader(LIMIT).unwrap();
    let (old, client) = (leader.address().to_string(), leader.client());
    let framework = Framework::subscribe(client).unwrap();
    let specs = [0, 1].map(|agent: usize| {
        TaskSpec::new(
            &format!("t{agent}"),
            &cluster.agents[agent].ip(),
            Some("dcos"),
        )
    });
    let states = specs.each_ref().map(|spec| run(&framework, spec));
    for (spec, state) in specs.iter().zip(&states) {
        let name = format!("{}.testbed.containerip", spec.id);
        server.wait_addresses(&name, LIMIT, &state.ips);
    }
    let name = format!("t1.testbed.containerip.{DOMAIN}");
    let right = server.dig(&name, "A").unwrap();
    assert_eq!(right.data.len(), 1);
    let is_old = |server: &Server| {
        let leader = server.dig(&format!("leader.{DOMAIN}"), "A").unwrap().data;
        leader
            .first()
            .is_some_and(|ip| old.starts_with(&format!("{ip}:")))
    };
    assert!(is_old(&server));
    // The framework goes on as the tasks do, without a master of its own.
    let new = asked_meanwhile(&server, &name, &right, || {
        let leader = cluster
            .masters()
            .find(|master| master.address().to_string() == old);
        leader.unwrap().kill().unwrap();
        let new = wait_other_leader(&mut cluster, &old, 2.0);
        let limit = Instant::now() + LIMIT;
        while is_old(&server) {
            assert!(Instant::now() < limit, "{}", server.daemon.log());
            thread::sleep(INTERVAL);
        }
        // The time in which names that nobody confirmed would be forgotten.
        thread::sleep(Duration::from_secs(12));
        new
    });
    println!("{new} leads after {old}");
    framework.leave();
}

#[test]
fn names_outlive_a_restart_without_a_master() {
    let Some(setup) = setup("names_outlive_a_restart_without_a_master", 1, 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let file = cluster.run().dir().join("dns.snapshot");
    let file = file.display().to_string();
    let options = ["--snapshot", &file, "--master", "10.77.0.1:5050"];
    let mut server = Server::start(&cluster, &cluster.agents[0], SERVER, &options);
    server.wait_ready();
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let spec = TaskSpec::new("t1", &cluster.agents[0].ip(), Some("dcos"));
    let ips = run(&framework, &spec).ips;
    server.wait_addresses("t1.testbed.containerip", LIMIT, &ips);
    framework.leave();
    let serial = |server: &Server| {
        let soa = server.dig(DOMAIN, "SOA").unwrap().data;
        let serial = soa[0].split(' ').nth(2).unwrap().to_owned();
        serial.parse::<u32>().unwrap()
    };
    let before = serial(&server);
    let leader = ["10.77.0.1".parse().unwrap()];
    server.wait_addresses("leader", LIMIT, &leader);
    // A process that is told to end writes its snapshot.
    server.daemon.terminate(LIMIT).unwrap();
    cluster.master.kill().unwrap();
    let mut server = Server::start(&cluster, &cluster.agents[0], SERVER, &options);
    server.wait_addresses("t1.testbed.containerip", LIMIT, &ips);
    server.wait_status("none.testbed.containerip", LIMIT, "NXDOMAIN");
    assert!(serial(&server) > before);
    // Looking for masters in vain takes none away.
    assert_eq!(server.addresses("leader").unwrap(), leader);
    server.daemon.terminate(LIMIT).unwrap();
    // After its age's limit they are not answered any more, and without a snapshot never.
    let aged = [&options[..], &["--max-age", "0"]].concat();
    let mut server = Server::start(&cluster, &cluster.agents[0], SERVER, &aged);
    server.wait_status("t1.testbed.containerip", LIMIT, "SERVFAIL");
    server.daemon.terminate(LIMIT).unwrap();
    let mut server = Server::start(&cluster, &cluster.agents[0], SERVER, &options[2..]);
    server.wait_status("t1.testbed.containerip", LIMIT, "SERVFAIL");
    // Whatever a damaged file says, it is kept, and the server begins without it.
    server.daemon.terminate(LIMIT).unwrap();
    let content = std::fs::read(&file).unwrap();
    std::fs::write(&file, &content[..content.len() / 2]).unwrap();
    let server = Server::start(&cluster, &cluster.agents[0], SERVER, &options);
    server.wait_status("t1.testbed.containerip", LIMIT, "SERVFAIL");
    assert!(
        server.daemon.log().contains("cut off or damaged"),
        "{}",
        server.daemon.log()
    );
    assert!(std::path::Path::new(&format!("{file}.damaged")).exists());
    cluster.master.start().unwrap();
    server.wait_addresses("t1.testbed.containerip", LIMIT, &ips);
}
