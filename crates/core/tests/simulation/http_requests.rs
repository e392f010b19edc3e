//! HTTP requests of operators.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::{Input, Request, RequestId, Response};

use crate::overlay_changes::Change;
use crate::simulation::Simulation;

impl Simulation {
    /// Requests a change of an overlay, unless another one is pending.
    pub fn change(&mut self, process: usize, change: Change) -> Result<Option<Response>, String> {
        if self.processes[process].machine.is_none()
            || self.checker.operators.is_pending(&change.name)
        {
            return Ok(None);
        }
        let path = match change.method {
            "POST" => "/overlay-master/overlays".to_owned(),
            _ => format!("/overlay-master/overlays/{}", change.name),
        };
        let (method, body) = (change.method, change.body.clone());
        self.checker
            .operators
            .ask(RequestId(self.requests + 1), change);
        self.request(process, method, &path, &body)
    }

    /// Sends a request. Returns the answer if it arrives at once.
    pub fn request(
        &mut self,
        process: usize,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<Option<Response>, String> {
        self.request_as(process, method, path, body, None)
    }

    /// Sends a request with an `Accept` header, see [`request`](Self::request).
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
            headers: Default::default(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        self.processes[process]
            .requests
            .insert(id, format!("{method} {path} {body}"));
        self.input(process, Input::Request(request))?;
        Ok(self.answers.remove(&id))
    }

    /// Deletes agents. With `force`, connected ones too.
    pub fn delete(
        &mut self,
        process: usize,
        ips: &[String],
        force: bool,
    ) -> Result<Option<Response>, String> {
        self.checker.delete(&self.processes[process], ips, force);
        let body = match force {
            true => serde_json::json!({ "agents": ips, "force": true }).to_string(),
            false => serde_json::json!({ "agents": ips }).to_string(),
        };
        self.request(process, "POST", "/overlay-master/agents/delete", &body)
    }

    /// Takes back the confirmation of agents. Returns whether the master serves.
    pub fn unconfirm(&mut self, process: usize, ips: &[String]) -> Result<bool, String> {
        let body = serde_json::json!({ "agents": ips }).to_string();
        self.checker
            .forgeries
            .taken_back
            .extend(ips.iter().cloned());
        let path = "/overlay-master/agents/unconfirm";
        let answer = self.request(process, "POST", path, &body)?;
        let serves = answer.is_none_or(|answer| answer.status == 200);
        Ok(serves && self.processes[process].machine.is_some())
    }

    /// Reclaims subnets of these agents, or of all.
    pub fn reclaim(&mut self, process: usize, ips: Option<&[String]>) -> Result<(), String> {
        let body = ips.map_or_else(
            || "{}".into(),
            |ips| serde_json::json!({ "agents": ips }).to_string(),
        );
        self.request(process, "POST", "/overlay-master/agents/reclaim", &body)
            .map(drop)
    }

    /// Allows removed agents to stay in the log from now on, because their leases end.
    pub fn let_removed_agents_stay(&mut self) {
        self.checker.removed_agents_may_stay = true;
    }

    pub fn removed_agents_may_stay(&self) -> bool {
        self.checker.removed_agents_may_stay
    }

    /// Returns the number of agents whose subnets a master gave to others.
    pub fn reclaimed(&self) -> u64 {
        self.checker.reclaimed
    }

    /// Deletes removed agents, with retries: at first the master may not have noticed that they
    /// are gone.
    pub fn delete_with_retries(&mut self, process: usize, ips: &[String]) -> Result<(), String> {
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
