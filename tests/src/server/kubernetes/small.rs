//! The small API server, as it comes and goes.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use tokio::{runtime::Runtime, task::JoinHandle};

use super::{
    api::Api,
    listener::{self, Certificates},
};

#[derive(Debug)]
pub struct Small {
    pub api: Arc<Api>,
    certificates: Certificates,
    address: SocketAddr,
    serving: Option<JoinHandle<()>>,
}

impl Small {
    pub fn new(api: Api, certificates: Certificates, address: SocketAddr) -> Self {
        Self { api: Arc::new(api), certificates, address, serving: None }
    }

    pub fn start(&mut self, runtime: &Runtime) -> Result<()> {
        let listener = runtime.block_on(listener::listen(self.address))?;
        let serve = listener::serve(listener, Arc::clone(&self.api), self.certificates.clone());
        self.serving = Some(runtime.spawn(async {
            if let Err(error) = serve.await {
                eprintln!("the tests' API server ended: {error:#}");
            }
        }));
        Ok(())
    }

    /// With all its connections; what it keeps stays.
    pub fn stop(&mut self, runtime: &Runtime) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // An error says that it was aborted, as it was.
            let _ = runtime.block_on(serving);
        }
    }
}
