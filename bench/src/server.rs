//! The server with all that it needs: its backends, and one process or several.
//!
//! What it keeps lies beside its binary, on the disk that holds the build, and not in `/tmp`: in memory an fsync costs
//! nothing and the figures would lie. A PostgreSQL is started for it there, and a Redis that saves nothing, as a queue
//! that can be rebuilt need not; both are stopped with it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use test_servers::postgres::Postgres;
use test_servers::redis;

use crate::Failure;
use crate::process::{Node, Process};

/// Where the server keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
    /// PostgreSQL with Redis as its queue.
    Redis,
}

impl Backend {
    const ALL: [(Self, &'static str, &'static str); 3] = [
        (Self::Sqlite, "sqlite", "SQLite"),
        (Self::Postgres, "postgres", "PostgreSQL on the same machine"),
        (Self::Redis, "redis", "PostgreSQL and Redis on the same machine"),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(backend, ..)| *backend)
    }
}

/// What a server is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) backend: Backend,
    /// Processes that deliver, beside one that takes events; 0: one process does both.
    pub(crate) workers: u32,
}

impl Layout {
    /// For the head of a table.
    pub(crate) fn title(self) -> String {
        let backend = Backend::ALL.iter().find(|(backend, ..)| *backend == self.backend);
        let backend = backend.map_or("", |(.., title)| title);
        match self.workers {
            0 => backend.to_owned(),
            workers => format!("{backend}; one process takes events, {workers} deliver"),
        }
    }
}

/// One figure of each of what the server runs on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backends<T> {
    pub(crate) postgres: T,
    pub(crate) redis: T,
}

#[derive(Debug)]
pub(crate) struct Server {
    /// The first one takes events.
    nodes: Vec<Node>,
    _directory: TempDir,
    // Behind the nodes, which are dropped before.
    postgres: Option<Postgres>,
    redis: Option<redis::Server>,
}

impl Server {
    /// Starts it on free ports and returns once every process says where it listens. Blocks.
    pub(crate) fn start(binary: &Path, layout: Layout, options: &[String]) -> Result<Self, Failure> {
        // It runs in a directory of its own, where a relative path would lead elsewhere.
        let binary = &std::path::absolute(binary)
            .map_err(|error| format!("cannot resolve {}: {error}", binary.display()))?;
        let beside = binary.parent().unwrap_or_else(|| Path::new("."));
        let directory = tempfile::Builder::new()
            .prefix("webhook-bench-")
            .tempdir_in(beside)
            .map_err(|error| format!("cannot create a directory in {}: {error}", beside.display()))?;
        let postgres = match layout.backend {
            Backend::Sqlite => None,
            Backend::Postgres | Backend::Redis => Some(Postgres::start_in(Some(beside))?),
        };
        let redis = match layout.backend {
            Backend::Redis => Some(redis::Server::start(&["--maxmemory-policy", "noeviction"])?),
            Backend::Sqlite | Backend::Postgres => None,
        };
        let file = || format!("sqlite://{}", directory.path().join("bench.db").display());
        let database = postgres.as_ref().map_or_else(file, |postgres| postgres.url().to_owned());
        let mut options = options.to_vec();
        if let Some(redis) = &redis {
            options.extend(["--redis-url".to_owned(), redis.url()]);
        }
        let roles: Vec<&str> = match layout.workers {
            0 => vec!["all"],
            workers => std::iter::once("api").chain((0..workers).map(|_| "worker")).collect(),
        };
        let mut nodes = Vec::with_capacity(roles.len());
        for role in roles {
            let options = [&options[..], &["--role".to_owned(), role.to_owned()]].concat();
            nodes.push(Node::start(binary, directory.path(), &database, &options)?);
        }
        Ok(Self { nodes, _directory: directory, postgres, redis })
    }

    /// Where events are taken.
    pub(crate) fn address(&self) -> SocketAddr {
        self.nodes[0].address()
    }

    pub(crate) fn postgres(&self) -> Option<&Postgres> {
        self.postgres.as_ref()
    }

    pub(crate) fn redis(&self) -> Option<&redis::Server> {
        self.redis.as_ref()
    }

    /// User and system time of all its processes so far.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        self.nodes.iter().map(|node| node.process().cpu()).sum()
    }

    /// The same of what it runs on; none of what is a part of its processes.
    pub(crate) fn backends_cpu(&self) -> Result<Backends<Option<Duration>>, Failure> {
        let of = |ids: Vec<u32>| -> Result<Duration, Failure> {
            // One may have ended since it was listed; its parent has its time then.
            let each = |id| Process { id: Some(id) }.cpu_with_ended().unwrap_or_default();
            Ok(ids.into_iter().map(each).sum())
        };
        Ok(Backends {
            postgres: self.postgres.as_ref().map(|postgres| of(postgres.processes()?)).transpose()?,
            redis: self.redis.as_ref().map(|redis| of(vec![redis.pid])).transpose()?,
        })
    }

    /// The most memory that each process ever held, together, in KiB.
    pub(crate) fn peak_memory(&self) -> Result<u64, Failure> {
        self.processes().map(Process::peak_memory).sum()
    }

    /// The memory that its processes hold now, in KiB.
    pub(crate) fn resident_memory(&self) -> Result<u64, Failure> {
        self.processes().map(Process::resident_memory).sum()
    }

    fn processes(&self) -> impl Iterator<Item = Process> {
        self.nodes.iter().map(Node::process)
    }

    /// An error when one of its processes has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        self.nodes.iter_mut().try_for_each(Node::check)
    }

    /// Asks all to stop; they must do so by themselves and exit with 0. Blocks.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.nodes.drain(..).try_for_each(Node::stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_found_by_their_names() {
        for (backend, name, _) in Backend::ALL {
            assert_eq!(Backend::named(name), Some(backend));
        }
        assert_eq!(Backend::named("valkey"), None);
    }
}
