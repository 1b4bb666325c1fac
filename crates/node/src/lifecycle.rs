//! The service while the barrier is open: built by unseal, dropped by seal.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use barrier::{Barrier, Journal};
use crypto::Rng;
use service::{Node, Service, Settings};
use storage::DataDir;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use types::Clock;

/// Where listeners find the service; empty while sealed.
#[derive(Clone, Default)]
pub(crate) struct Serving(Arc<ArcSwapOption<Service>>);

impl Serving {
    pub(crate) fn service(&self) -> Option<Arc<Service>> {
        self.0.load_full()
    }
}

/// What following the barrier needs.
pub(crate) struct Follow {
    pub(crate) barrier: Barrier,
    pub(crate) serving: Serving,
    pub(crate) data_dir: Arc<DataDir>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) settings: Settings,
    pub(crate) node: Arc<dyn Node>,
    pub(crate) health: HealthReporter,
    pub(crate) stop: CancellationToken,
}

/// Builds and drops the service as the barrier opens and seals, and tells gRPC health.
pub(crate) async fn follow(parts: Follow) {
    let mut open = parts.barrier.watch_open();
    loop {
        let is_open = *open.borrow_and_update();
        let service = is_open.then(|| {
            let (clock, rng) = (Arc::clone(&parts.clock), Arc::clone(&parts.rng));
            let node = Arc::clone(&parts.node);
            Arc::new(Service::new(Arc::new(parts.barrier.clone()), clock, rng, parts.settings.clone(), node))
        });
        let status = if service.is_some() { ServingStatus::Serving } else { ServingStatus::NotServing };
        parts.serving.0.store(service.clone());
        parts.health.set_service_status("", status).await;
        if is_open {
            remember_cluster(&parts).await;
        }
        let chores = async {
            match &service {
                Some(service) => {
                    let joining = service.join_journal(Arc::clone(&parts.journal), parts.data_dir.node());
                    tokio::join!(service.run_chores(), joining, service.run_snapshots());
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = parts.stop.cancelled() => {
                // It still serves, but not for long.
                parts.health.set_service_status("", ServingStatus::NotServing).await;
                return;
            }
            changed = open.changed() => if changed.is_err() { return },
            () = chores => {}
        }
    }
}

/// Once this node was opened, its folder belongs to that cluster for good.
async fn remember_cluster(parts: &Follow) {
    match parts.barrier.status().await {
        Ok(status) => {
            if let Some((cluster, _)) = status.cluster {
                parts.journal.bind_cluster(cluster);
                let replaced = parts.barrier.replaced_clusters().unwrap_or_default();
                if let Err(error) = parts.data_dir.rebind_cluster(cluster, &replaced) {
                    tracing::error!(%error, "bind the data folder to the cluster");
                }
            }
        }
        Err(error) => tracing::error!(%error, "read the cluster's id"),
    }
}
