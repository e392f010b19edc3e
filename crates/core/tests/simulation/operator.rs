//! Requests over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::{Input, Request, RequestId, Response};

use crate::networks::Change;
use crate::world::World;

impl World {
    /// An operator changes a network, unless another one is about to.
    pub fn change(&mut self, process: usize, change: Change) -> Result<Option<Response>, String> {
        if self.processes[process].machine.is_none()
            || self.check.operators.is_pending(&change.name)
        {
            return Ok(None);
        }
        let path = match change.method {
            "POST" => "/overlay-master/overlays".to_owned(),
            _ => format!("/overlay-master/overlays/{}", change.name),
        };
        let (method, body) = (change.method, change.body.clone());
        self.check
            .operators
            .ask(RequestId(self.requests + 1), change);
        self.request(process, method, &path, &body)
    }

    /// An HTTP request; its answer, if it comes at once.
    pub fn request(
        &mut self,
        process: usize,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<Option<Response>, String> {
        self.request_as(process, method, path, body, None)
    }

    /// The same with an `Accept` header.
    pub fn request_as(
        &mut self,
        process: usize,
        method: &str,
        path: &str,
        body: &str,
        accept: Option<&str>,
    ) -> Result<Option<Response>, String> {
        if self.processes[process].machine.is_none() {
            return Ok(None);
        }
        self.requests += 1;
        let id = RequestId(self.requests);
        let request = Request {
            id,
            method: method.into(),
            path: path.into(),
            query: BTreeMap::new(),
            accept: accept.map(str::to_owned),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        self.processes[process]
            .requests
            .insert(id, format!("{method} {path} {body}"));
        self.input(process, Input::Request(request))?;
        Ok(self.answers.remove(&id))
    }

    /// An operator's `agents/delete`; of agents that are connected, too?
    pub fn delete(
        &mut self,
        process: usize,
        ips: &[String],
        force: bool,
    ) -> Result<Option<Response>, String> {
        self.check.delete(&self.processes[process], ips, force);
        let body = match force {
            true => serde_json::json!({ "agents": ips, "force": true }).to_string(),
            false => serde_json::json!({ "agents": ips }).to_string(),
        };
        self.request(process, "POST", "/overlay-master/agents/delete", &body)
    }

    /// An operator's `agents/reclaim`, of all or of these.
    pub fn reclaim(&mut self, process: usize, ips: Option<&[String]>) -> Result<(), String> {
        let body = ips.map_or_else(
            || "{}".into(),
            |ips| serde_json::json!({ "agents": ips }).to_string(),
        );
        self.request(process, "POST", "/overlay-master/agents/reclaim", &body)
            .map(drop)
    }

    /// Agents that left need not be deleted from now on: their leases end.
    pub fn let_gone_stay(&mut self) {
        self.check.gone_may_stay = true;
    }

    pub fn gone_may_stay(&self) -> bool {
        self.check.gone_may_stay
    }

    /// How often a master gave an agent's ranges to others.
    pub fn reclaimed(&self) -> u64 {
        self.check.reclaimed
    }

    /// An operator's `agents/delete` of agents that are gone, until it is done: at first
    /// the master may not have heard that they are.
    pub fn delete_patiently(&mut self, process: usize, ips: &[String]) -> Result<(), String> {
        for _ in 0..60 {
            let answer = self.delete(process, ips, false)?;
            let id = RequestId(self.requests);
            self.run_for(Duration::from_secs(1))?;
            if answer
                .or_else(|| self.answers.remove(&id))
                .is_some_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
        }
        Err(format!("{ips:?} cannot be deleted"))
    }
}
