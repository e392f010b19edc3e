//! The table against a model: lists, from which a master's whole state is made.

use proptest::prelude::*;

use super::*;

/// Event of a cluster.
#[derive(Clone, Debug)]
enum Step {
    Framework(u8, bool),
    Agent(u8, bool),
    Task {
        framework: u8,
        task: u8,
        agent: u8,
        state: u8,
        ip: Option<u8>,
        port: bool,
    },
    Update {
        framework: u8,
        task: u8,
        state: u8,
        ip: Option<u8>,
    },
    Resubscribe,
    Restart,
}

const STATES: [&str; 5] = [
    "TASK_STAGING",
    "TASK_RUNNING",
    "TASK_RUNNING",
    "TASK_KILLING",
    "TASK_FAILED",
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ip = || prop::option::weighted(0.8, 1..6_u8);
    let step = prop_oneof![
        1 => (0..2_u8, any::<bool>()).prop_map(|(f, there)| Step::Framework(f, there)),
        2 => (0..3_u8, prop::bool::weighted(0.7)).prop_map(|(a, there)| Step::Agent(a, there)),
        4 => (0..2_u8, 0..5_u8, 0..3_u8, 0..5_u8, ip(), any::<bool>()).prop_map(
            |(framework, task, agent, state, ip, port)| Step::Task { framework, task, agent, state, ip, port }
        ),
        5 => (0..2_u8, 0..5_u8, 0..5_u8, ip()).prop_map(
            |(framework, task, state, ip)| Step::Update { framework, task, state, ip }
        ),
        1 => Just(Step::Resubscribe),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..60)
}

/// A cluster as lists, from which a master's whole state is made.
#[derive(Default)]
struct Model {
    frameworks: BTreeSet<u8>,
    agents: BTreeSet<u8>,
    tasks: BTreeMap<(u8, u8), Value>,
    time: f64,
}

impl Model {
    fn framework(number: u8) -> Value {
        framework(&format!("f{number}"), &format!("Fw_{number}"))
    }

    fn agent(number: u8) -> Value {
        agent(&format!("s{number}"), &format!("10.0.0.{number}"))
    }

    fn status(&mut self, task: u8, ip: Option<u8>) -> Value {
        self.time += 1.0;
        status(&format!("t{task}"), ip, Some(self.time))
    }

    /// Takes a step. Returns the event that tells of it.
    fn take(&mut self, step: &Step) -> Option<Value> {
        match *step {
            Step::Framework(number, true) => {
                self.frameworks.insert(number);
                Some(json!({ "framework_added": { "framework": Model::framework(number) } }))
            }
            Step::Framework(number, false) => {
                self.frameworks.remove(&number);
                self.tasks.retain(|(framework, _), _| *framework != number);
                Some(json!({ "framework_removed": Model::framework(number) }))
            }
            Step::Agent(number, true) => {
                self.agents.insert(number);
                Some(json!({ "agent_added": { "agent": Model::agent(number) } }))
            }
            Step::Agent(number, false) => {
                self.agents.remove(&number);
                let id = format!("s{number}");
                self.tasks
                    .retain(|_, task| task["agent_id"]["value"] != id.as_str());
                Some(json!({ "agent_removed": { "agent_id": { "value": id } } }))
            }
            Step::Task {
                framework,
                task: id,
                agent,
                state,
                ip,
                port,
            } => {
                let status = self.status(id, ip);
                let state = STATES[usize::from(state)];
                let mut info = task(&format!("t{id}"), state, &format!("s{agent}"), &[status]);
                info["framework_id"]["value"] = format!("f{framework}").into();
                // Some tasks share a name.
                info["name"] = format!("app{}", id / 2).into();
                if port {
                    info["discovery"] = json!({ "ports": { "ports": [{ "number": 80 }] } });
                }
                match state {
                    "TASK_FAILED" => self.tasks.remove(&(framework, id)),
                    _ => self.tasks.insert((framework, id), info.clone()),
                };
                Some(added(&info))
            }
            Step::Update {
                framework,
                task,
                state,
                ip,
            } => {
                let status = self.status(task, ip);
                let state = STATES[usize::from(state)];
                if let Some(info) = self.tasks.get_mut(&(framework, task)) {
                    info["state"] = state.into();
                    info["statuses"]
                        .as_array_mut()
                        .unwrap()
                        .push(status.clone());
                    if state == "TASK_FAILED" {
                        self.tasks.remove(&(framework, task));
                    }
                }
                let mut event = updated(state, &status);
                event["task_updated"]["framework_id"]["value"] = format!("f{framework}").into();
                Some(event)
            }
            Step::Resubscribe | Step::Restart => None,
        }
    }

    fn whole_state(&self) -> Value {
        let frameworks: Vec<Value> = self
            .frameworks
            .iter()
            .copied()
            .map(Model::framework)
            .collect();
        let agents: Vec<Value> = self.agents.iter().copied().map(Model::agent).collect();
        let tasks: Vec<&Value> = self.tasks.values().collect();
        json!({ "subscribed": { "get_state": {
            "get_tasks": { "tasks": tasks },
            "get_frameworks": { "frameworks": frameworks },
            "get_agents": { "agents": agents },
        } } })
    }
}

proptest! {
    /// Whatever happens, in events, new subscriptions and restarts with a snapshot: the records are
    /// those of a table that is built from the master's whole state.
    #[test]
    fn events_lead_to_the_records_of_the_whole_state(steps in steps()) {
        let mut model = Model::default();
        let mut bed = Bed::new();
        bed.event(&model.whole_state());
        for step in &steps {
            match (model.take(step), step) {
                (Some(event), _) => bed.event(&event),
                (None, Step::Restart) => {
                    let content = crate::snapshot::encode(&bed.cluster, &bed.zones, &[], std::time::UNIX_EPOCH);
                    let kept = crate::snapshot::decode(&content, &rules()).unwrap();
                    let before = bed.records();
                    bed = Bed { cluster: kept.cluster, now: bed.now, ..Bed::new() };
                    bed.apply();
                    prop_assert_eq!(bed.records(), before);
                    bed.event(&model.whole_state());
                }
                (None, _) => bed.event(&model.whole_state()),
            }
            // Tasks on agents that are not there wait; their time to be confirmed passes.
            if matches!(step, Step::Resubscribe | Step::Restart) {
                bed.pass(0);
                bed.pass(11);
            }
            let mut anew = Bed::new();
            anew.event(&model.whole_state());
            prop_assert_eq!(bed.records(), anew.records(), "after {:?}", step);
        }
        let counts = bed.cluster.counts();
        prop_assert_eq!(counts.tasks, model.tasks.len());
        prop_assert_eq!(counts.agents, model.agents.len());
    }
}
