//! The host that an agent runs on.

use std::sync::Arc;

use crate::core::HostReport;
use crate::host::Executor;
use crate::host::desired::Desired;
use crate::runtime::node::Host;

/// Carries out on this very host, on a thread that is started when it is needed
/// first: a master needs none.
pub struct LocalHost {
    wake: Arc<dyn Fn() + Send + Sync>,
    executor: Option<Executor>,
    /// When there is no thread: the report that says so.
    failed: Option<HostReport>,
}

impl LocalHost {
    /// `wake` is called, from any thread, when there is a report.
    pub fn new(wake: Arc<dyn Fn() + Send + Sync>) -> LocalHost {
        LocalHost { wake, executor: None, failed: None }
    }
}

impl Host for LocalHost {
    fn apply(&mut self, generation: u64, desired: Arc<Desired>) {
        if self.executor.is_none() {
            let wake = self.wake.clone();
            match Executor::spawn(move || wake()) {
                Ok(executor) => self.executor = Some(executor),
                Err(error) => {
                    let host = vec![format!("no thread can be started to configure the host: {error}")];
                    self.failed = Some(HostReport { generation, host, ..HostReport::default() });
                }
            }
        }
        if let Some(executor) = &self.executor {
            executor.apply(generation, desired);
        }
    }

    fn poll(&mut self) -> Option<HostReport> {
        self.failed.take().or_else(|| self.executor.as_ref()?.poll())
    }
}
