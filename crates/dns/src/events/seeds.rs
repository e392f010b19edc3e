//! Decoder of an event that hands its parts on as they arrive.

use std::fmt;
use std::io::Read;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::wire::{AgentInfo, FrameworkInfo, Id, State, Status, Task};
use super::{Item, Text};

/// Decodes one event.
///
/// # Errors
/// It is no event, or reading fails.
pub fn decode(record: impl Read, sink: &mut impl FnMut(Item)) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_reader(record);
    Event(sink).deserialize(&mut deserializer)?;
    deserializer.end()
}

/// Defines a decoder of an object, which handles some of its members and ignores the others.
macro_rules! object {
    ($name:ident, $sink:ident, $map:ident, { $($key:pat => $handle:expr),* $(,)? }) => {
        struct $name<'a, S>(&'a mut S);

        impl<'de, S: FnMut(Item)> DeserializeSeed<'de> for $name<'_, S> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.deserialize_map(self)
            }
        }

        impl<'de, S: FnMut(Item)> Visitor<'de> for $name<'_, S> {
            type Value = ();

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut $map: A) -> Result<(), A::Error> {
                let $sink = self.0;
                while let Some(key) = $map.next_key::<Text>()? {
                    match std::str::from_utf8(&key).unwrap_or_default() {
                        $($key => $handle,)*
                        _ => {
                            $map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(())
            }
        }
    };
}

object!(Event, sink, map, {
    "subscribed" => {
        sink(Item::StateBegins);
        let heartbeat = map.next_value_seed(Subscribed(sink))?;
        sink(Item::StateEnds { heartbeat });
    },
    "task_added" => {
        let TaskAdded { task } = map.next_value()?;
        sink(Item::Task(task));
    },
    "task_updated" => {
        let TaskUpdated { framework_id, status, state } = map.next_value()?;
        sink(Item::Status { framework: framework_id, status, state });
    },
    "agent_added" => {
        let AgentAdded { agent } = map.next_value()?;
        sink(agent.item());
    },
    "agent_removed" => {
        let AgentRemoved { agent_id } = map.next_value()?;
        sink(Item::AgentRemoved(agent_id));
    },
    "framework_added" | "framework_updated" => {
        let FrameworkAdded { framework } = map.next_value()?;
        sink(framework.item());
    },
    "framework_removed" => {
        let Framework { framework_info } = map.next_value()?;
        sink(Item::FrameworkRemoved(framework_info.id));
    },
});

/// Decoder of the first event, which returns the interval of heartbeats.
struct Subscribed<'a, S>(&'a mut S);

impl<'de, S: FnMut(Item)> DeserializeSeed<'de> for Subscribed<'_, S> {
    type Value = Option<f64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<f64>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: FnMut(Item)> Visitor<'de> for Subscribed<'_, S> {
    type Value = Option<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<f64>, A::Error> {
        let mut heartbeat = None;
        while let Some(key) = map.next_key::<Text>()? {
            match &*key {
                b"get_state" => map.next_value_seed(WholeState(self.0))?,
                b"heartbeat_interval_seconds" => heartbeat = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(heartbeat)
    }
}

object!(WholeState, sink, map, {
    "get_tasks" => map.next_value_seed(Tasks(sink))?,
    "get_frameworks" => map.next_value_seed(Frameworks(sink))?,
    "get_agents" => map.next_value_seed(Agents(sink))?,
});

object!(Tasks, sink, map, {
    "tasks" => map.next_value_seed(Elements::new(sink, |task: Box<Task>| Item::Task(task)))?,
    "unreachable_tasks" | "completed_tasks" => {
        map.next_value_seed(Elements::new(sink, EndedTask::item))?;
    },
});

object!(Frameworks, sink, map, {
    "frameworks" => map.next_value_seed(Elements::new(sink, Framework::item))?,
    "recovered_frameworks" => map.next_value_seed(Elements::new(sink, Item::Framework))?,
    "completed_frameworks" => {
        let gone = |framework: Framework| Item::FrameworkRemoved(framework.framework_info.id);
        map.next_value_seed(Elements::new(sink, gone))?;
    },
});

object!(Agents, sink, map, {
    "agents" => map.next_value_seed(Elements::new(sink, Agent::item))?,
    "recovered_agents" => {
        let recovered = |agent: AgentInfo| Item::RecoveredAgent(agent.id);
        map.next_value_seed(Elements::new(sink, recovered))?;
    },
});

/// Decoder of a list whose elements become items.
struct Elements<'a, S, T, F> {
    sink: &'a mut S,
    item: F,
    element: PhantomData<T>,
}

impl<'a, S, T, F: Fn(T) -> Item> Elements<'a, S, T, F> {
    fn new(sink: &'a mut S, item: F) -> Self {
        Elements {
            sink,
            item,
            element: PhantomData,
        }
    }
}

impl<'de, S: FnMut(Item), T: Deserialize<'de>, F: Fn(T) -> Item> DeserializeSeed<'de>
    for Elements<'_, S, T, F>
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: FnMut(Item), T: Deserialize<'de>, F: Fn(T) -> Item> Visitor<'de>
    for Elements<'_, S, T, F>
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element()? {
            (self.sink)((self.item)(element));
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct TaskAdded {
    task: Box<Task>,
}

#[derive(serde::Deserialize)]
struct TaskUpdated {
    framework_id: Id,
    status: Box<Status>,
    state: State,
}

#[derive(serde::Deserialize)]
struct AgentAdded {
    agent: Agent,
}

#[derive(serde::Deserialize)]
struct AgentRemoved {
    agent_id: Id,
}

#[derive(serde::Deserialize)]
struct FrameworkAdded {
    framework: Framework,
}

#[derive(serde::Deserialize)]
struct Framework {
    framework_info: FrameworkInfo,
}

impl Framework {
    fn item(self) -> Item {
        Item::Framework(self.framework_info)
    }
}

#[derive(serde::Deserialize)]
struct Agent {
    agent_info: AgentInfo,
    #[serde(default)]
    pid: Text,
}

impl Agent {
    fn item(self) -> Item {
        Item::Agent(AgentInfo {
            pid: self.pid,
            ..self.agent_info
        })
    }
}

#[derive(serde::Deserialize)]
#[serde(default)]
#[derive(Default)]
struct EndedTask {
    framework_id: Id,
    task_id: Id,
}

impl EndedTask {
    fn item(self) -> Item {
        Item::Ended {
            framework: self.framework_id,
            task: self.task_id,
        }
    }
}
