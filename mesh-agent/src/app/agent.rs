//! The agent: its components, and the state that ties them together.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    descriptors, discovery,
    explicit::NotRedirected,
    kernel::{Feeds, Kernel},
    kubernetes::Kubernetes,
    namespaces::Tracked,
    pods::Pods,
    run::RunOptions,
    watch::Stamp,
};
use crate::{
    admin::{AgentState, ControlError},
    discovery::{Discovery, Memory},
    dns::{Dns, DnsSettings},
    model::Settings,
    net::{Namespace, OriginalDestinations, SocketOptions},
    proxy::{Proxy, ProxySettings},
    registry::{Registry, SnapshotReader},
    tap::Taps,
    telemetry::Logs,
};

#[derive(Debug)]
pub(super) struct Agent {
    pub logs: Logs,
    pub started: Instant,
    pub snapshots: SnapshotReader,
    pub proxy: Proxy,
    pub taps: Arc<Taps>,
    pub dns: Dns,
    pub discovery: Discovery,
    pub pods: Pods,
    /// Reloads that were accepted, and refused.
    pub reloads: (AtomicU64, AtomicU64),
    /// Connections that were ended because their instance had left.
    pub ended_by_removal: AtomicU64,
    config: PathBuf,
    kernel: Option<Kernel>,
    kubernetes: Option<Kubernetes>,
    /// What the file says; `settings` has the cluster's services too.
    file: ArcSwap<Settings>,
    settings: ArcSwap<Settings>,
    pub registry: tokio::sync::Mutex<Registry>,
    state: watch::Sender<AgentState>,
    last_reload: Mutex<Option<LastReload>>,
    /// The file, as it was when it was read last.
    last_read: Mutex<Option<Stamp>>,
    /// Held for a whole reload: the file's watcher and a command may come at once.
    pub reloading: tokio::sync::Mutex<()>,
    namespaces: ArcSwap<(Vec<Tracked>, Vec<String>)>,
    /// What was discovered and isn't in force, in words.
    undiscovered: ArcSwap<Vec<String>>,
}

#[derive(Clone, Debug)]
pub(super) struct LastReload {
    pub at: Instant,
    /// Empty where it was accepted.
    pub problems: Vec<String>,
}

impl Agent {
    pub async fn start(
        options: RunOptions,
        file: Settings,
        kubernetes: Option<Kubernetes>,
    ) -> anyhow::Result<(Arc<Self>, Option<Feeds>)> {
        let composed = kubernetes.as_ref().map(|kubernetes| kubernetes.compose(&file));
        let settings = composed.as_ref().map_or_else(|| file.clone(), |it| it.settings.clone());
        let mut registry = Registry::new();
        let snapshots = registry.reader();
        registry.locate(settings.locality.clone());
        let mark = if options.ebpf { settings.capture.mark } else { 0 };
        let socket = SocketOptions { mark };
        let mut originals: Arc<dyn OriginalDestinations> = Arc::new(NotRedirected);
        let (mut kernel, mut feeds) = (None, None);
        let memory = Memory::load(&discovery::memory(&settings.admin.socket));
        let discovery = Discovery::new(socket, memory).context("starting discovery")?;
        if options.ebpf {
            let (started, destinations, fed) = Kernel::start(&settings).await?;
            discovery.suppose(&settings.services, |spec| started.tables().standing(spec));
            originals = destinations;
            (kernel, feeds) = (Some(started), Some(fed));
        }
        let sources = discovery.prepare(&settings.services);
        // Nothing is taken out of the kernel's maps before the sources could
        // say what belongs there.
        sources.first_outcomes(discovery::FIRST_ANSWERS).await;
        let mut found = sources.found();
        if let Some((kubernetes, composed)) = kubernetes.as_ref().zip(composed) {
            found.extend(kubernetes.found(&settings, None));
            kubernetes.note(composed);
        }
        registry.configure_with(settings.services.clone(), found);
        discovery.commit(sources);

        if let Some(kernel) = &kernel {
            kernel.tables().sync(&snapshots.load())?;
        }
        let taps = Arc::<Taps>::default();
        let proxy = Proxy::start(
            &ProxySettings {
                workers: std::thread::available_parallelism().map_or(1, usize::from),
                port: settings.capture.proxy_port,
                socket,
                limits: descriptors::affordable(&settings.limits),
                taps: Arc::clone(&taps),
            },
            &snapshots,
            &originals,
        )
        .context("starting the proxy's workers")?;
        let dns = Dns::new(
            snapshots.clone(),
            originals,
            DnsSettings { port: settings.dns.port, ttl: settings.dns.ttl, socket },
        );
        let agent = Arc::new(Self {
            logs: options.logs,
            started: Instant::now(),
            snapshots,
            proxy,
            taps,
            dns,
            discovery,
            pods: Pods::default(),
            reloads: Default::default(),
            ended_by_removal: AtomicU64::new(0),
            config: options.config,
            kernel,
            kubernetes,
            file: ArcSwap::from_pointee(file),
            settings: ArcSwap::from_pointee(settings),
            registry: tokio::sync::Mutex::new(registry),
            state: watch::Sender::new(AgentState::Starting),
            last_reload: Mutex::default(),
            last_read: Mutex::default(),
            reloading: tokio::sync::Mutex::default(),
            namespaces: ArcSwap::default(),
            undiscovered: ArcSwap::default(),
        });
        if agent.kernel.is_none() {
            agent.listen_explicitly().await?;
        }
        Ok((agent, feeds))
    }

    /// Says when there is a new snapshot.
    pub async fn watch_generation(&self) -> watch::Receiver<u64> {
        self.registry.lock().await.watch()
    }

    pub fn config_path(&self) -> PathBuf {
        self.config.clone()
    }

    pub fn kernel(&self) -> Option<&Kernel> {
        self.kernel.as_ref()
    }

    pub fn kubernetes(&self) -> Option<&Kubernetes> {
        self.kubernetes.as_ref()
    }

    /// What the file says.
    pub fn file(&self) -> Arc<Settings> {
        self.file.load_full()
    }

    pub fn set_file(&self, file: Settings) {
        self.file.store(Arc::new(file));
    }

    /// What is in force: the file, with the cluster's services.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    pub fn state(&self) -> AgentState {
        *self.state.borrow()
    }

    pub fn watch_state(&self) -> watch::Receiver<AgentState> {
        self.state.subscribe()
    }

    pub fn set_state(&self, state: AgentState) {
        self.state.send_replace(state);
    }

    pub fn note_beat(&self) {
        if let Some(kernel) = &self.kernel {
            kernel.note_beat();
        }
    }

    pub fn last_reload(&self) -> Option<LastReload> {
        self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn note_reload(&self, reload: LastReload) {
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(reload);
    }

    pub fn last_read(&self) -> Option<Stamp> {
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note_read(&self, file: Option<Stamp>) {
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    pub fn namespaces(&self) -> Arc<(Vec<Tracked>, Vec<String>)> {
        self.namespaces.load_full()
    }

    pub fn publish_namespaces(&self, mut tracked: Vec<Tracked>, refused: Vec<String>) {
        tracked.sort_by_key(|tracked| tracked.namespace.cookie());
        self.namespaces.store(Arc::new((tracked, refused)));
    }

    /// What was discovered and isn't in force.
    pub fn undiscovered(&self) -> Arc<Vec<String>> {
        self.undiscovered.load_full()
    }

    pub fn publish_undiscovered(&self, problems: Vec<String>) {
        self.undiscovered.store(Arc::new(problems));
    }

    /// From here on captured sockets are redirected.
    pub fn attach_hooks(&self) -> anyhow::Result<()> {
        match &self.kernel {
            Some(kernel) => kernel.attach(&self.settings(), self.pods.table().tree()),
            None => Ok(()),
        }
    }

    /// Opens the listeners in a namespace; tells where.
    pub async fn open_namespace(
        &self,
        namespace: &Arc<Namespace>,
    ) -> anyhow::Result<Vec<SocketAddr>> {
        let opened = self.proxy.open(Arc::clone(namespace)).await.context("proxy listener")?;
        if self.settings().dns.enabled {
            self.open_dns(namespace).await;
        }
        Ok(opened.addresses)
    }

    /// Queries pass untouched where this fails; the rest works.
    async fn open_dns(&self, namespace: &Arc<Namespace>) {
        if let Err(error) = self.dns.open(Arc::clone(namespace)).await {
            tracing::warn!(netns = namespace.cookie(), %error, "can't listen for DNS in a namespace");
        }
    }

    pub async fn close_namespace(&self, cookie: u64) {
        self.proxy.close(cookie).await;
        self.dns.close(cookie).await;
    }

    /// Puts new settings into force, or leaves everything as it was. New sources
    /// get this much time to answer first.
    pub async fn put_into_force(
        &self,
        old: &Settings,
        mut new: Settings,
        patience: Duration,
    ) -> Result<(), ControlError> {
        new.keep(old);
        let sources = self.discovery.prepare(&new.services);
        sources.first_outcomes(patience).await;
        let mut registry = self.registry.lock().await;
        let before = registry.discovered();
        registry.locate(new.locality.clone());
        let mut found = sources.found();
        found.extend(self.kubernetes.iter().flat_map(|it| it.found(&new, None)));
        registry.configure_with(new.services.clone(), found);
        if let Some(kernel) = &self.kernel {
            let applied = self.apply_to_kernel(kernel, old, &new);
            if let Err(error) = applied {
                registry.locate(old.locality.clone());
                registry.configure_with(old.services.clone(), before);
                let restored = self.apply_to_kernel(kernel, &new, old);
                let tail = restored.err().map_or(String::new(), |error| {
                    format!("; putting the old configuration back failed too: {error:#}")
                });
                return Err(ControlError::Unavailable(format!("{error:#}{tail}")));
            }
        }
        self.discovery.commit(sources);
        self.proxy.set_limits(descriptors::affordable(&new.limits));
        let dns = (old.dns.enabled, new.dns.enabled);
        self.settings.store(Arc::new(new));
        for tracked in &self.namespaces().0 {
            match dns {
                (false, true) => self.open_dns(&tracked.namespace).await,
                (true, false) => self.dns.close(tracked.namespace.cookie()).await,
                _ => {}
            }
        }
        Ok(())
    }

    fn apply_to_kernel(
        &self,
        kernel: &Kernel,
        old: &Settings,
        new: &Settings,
    ) -> anyhow::Result<()> {
        let mut tables = kernel.tables();
        tables.sync(&self.snapshots.load())?;
        if (&old.capture, &old.dns) != (&new.capture, &new.dns) {
            tables.configure(new, log::max_level())?;
        }
        drop(tables);
        if old.capture.cgroups != new.capture.cgroups {
            kernel.attach(new, self.pods.table().tree())?;
        }
        Ok(())
    }

    /// Takes an instance out by hand, or back in; `false` where there is none.
    pub async fn set_drained(
        &self,
        service: &str,
        endpoint: SocketAddr,
        drained: bool,
    ) -> Result<bool, ControlError> {
        let mut registry = self.registry.lock().await;
        if !registry.set_drained(service, endpoint, drained) {
            return Ok(false);
        }
        if let Some(kernel) = &self.kernel {
            kernel
                .tables()
                .sync(&self.snapshots.load())
                .map_err(|error| ControlError::Unavailable(error.to_string()))?;
        }
        Ok(true)
    }

    /// Tells the kernel programs how much to log, as the filter has it.
    pub fn follow_log_level(&self) {
        let Some(kernel) = &self.kernel else { return };
        if let Err(error) = kernel.tables().configure(&self.settings(), log::max_level()) {
            tracing::warn!(error = format!("{error:#}"), "telling the hooks the log level failed");
        }
    }

    /// Lets what is under way end; returns how many connections were cut.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let cut = self.proxy.drain(deadline).await;
        self.dns.shutdown().await;
        cut
    }

    pub fn count_reloads(&self) -> (u64, u64) {
        (self.reloads.0.load(Ordering::Relaxed), self.reloads.1.load(Ordering::Relaxed))
    }
}
