//! A part of a master's agents: `/overlay-master/agents`.

use super::agents::Agent;
use super::write;
use crate::proto::agent_overlay_info::State;

/// The size of a list of agents, and the place of the part that is shown.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The number of agents that the request selects.
    pub matched: usize,
    /// The number of selected agents before the first one that is shown.
    pub offset: usize,
    /// The number of all agents.
    pub total: usize,
}

/// Returns some agents.
pub fn agent_list<'a>(
    agents: impl Iterator<Item = Agent<'a, impl Fn(&str) -> Option<&'a State>>>,
    extent: Extent,
) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (index, agent) in agents.enumerate() {
        out.extend_from_slice(if index == 0 { b"\"agents\":[" } else { b"," });
        agent.write(&mut out);
    }
    if out.len() > 1 {
        out.extend_from_slice(b"],");
    }
    let Extent {
        matched,
        offset,
        total,
    } = extent;
    for (name, value) in [("matched", matched), ("offset", offset), ("total", total)] {
        write(&mut out, &name);
        out.push(b':');
        write(&mut out, &value);
        out.push(b',');
    }
    out.pop();
    out.push(b'}');
    out
}
