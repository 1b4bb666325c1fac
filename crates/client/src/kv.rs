//! KV v2 over HTTP.
//!
//! Always: a write carries `cas` only when the caller said so; an absent secret is an error that
//! [`Error::is_not_found`] knows, a deleted version is an answer without data.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Client, Error, Method, SecretData};

/// See [`Client::kv`].
pub struct Kv<'a> {
    client: &'a Client,
    mount: &'a str,
}

/// One version of a secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// From 1.
    #[serde(rename = "version")]
    pub number: u64,
    /// RFC 3339.
    pub created_time: String,
    /// RFC 3339; empty when it is not deleted. May lie ahead.
    #[serde(default)]
    pub deletion_time: String,
    /// Whether the value is gone for good.
    #[serde(default)]
    pub destroyed: bool,
}

/// A secret as read.
pub struct Secret {
    /// `None` when this version is deleted or destroyed.
    pub data: Option<SecretData>,
    /// Which version it is.
    pub version: Version,
}

/// A secret's metadata, as `metadata/` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The newest version; 0 when there is none.
    pub current_version: u64,
    /// The oldest version that is kept.
    pub oldest_version: u64,
    /// RFC 3339.
    pub created_time: String,
    /// RFC 3339.
    pub updated_time: String,
    /// 0: the mount's.
    pub max_versions: u32,
    /// Whether each write must carry `cas`.
    pub cas_required: bool,
    /// A duration: `"0s"`, `"768h0m0s"`.
    pub delete_version_after: String,
    /// The caller's own notes.
    pub custom_metadata: Option<BTreeMap<String, String>>,
    /// By number, as text.
    pub versions: BTreeMap<String, VersionState>,
}

/// One version in [`Metadata::versions`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionState {
    /// RFC 3339.
    pub created_time: String,
    /// RFC 3339; empty when it is not deleted.
    #[serde(default)]
    pub deletion_time: String,
    /// Whether the value is gone for good.
    #[serde(default)]
    pub destroyed: bool,
}

impl<'a> Kv<'a> {
    pub(crate) fn new(client: &'a Client, mount: &'a str) -> Kv<'a> {
        Kv { client, mount: mount.trim_matches('/') }
    }

    fn path(&self, part: &str, path: &str) -> String {
        format!("{}/{part}/{}", self.mount, path.trim_start_matches('/'))
    }

    /// Writes a new version. `cas`: only if this is the newest (0: only if there is none); such a write is safe to repeat
    /// by hand after [`Error::Indeterminate`]: the second one fails if the first was applied.
    pub async fn put(&self, path: &str, data: SecretData, cas: Option<u64>) -> Result<Version, Error> {
        #[derive(Serialize)]
        struct Options {
            #[serde(skip_serializing_if = "Option::is_none")]
            cas: Option<u64>,
        }
        #[derive(Serialize)]
        struct Body<'a> {
            data: &'a Map<String, Value>,
            options: Options,
        }
        // EXPOSE: the fields go to the server.
        let body = Body { data: data.expose(), options: Options { cas } };
        self.client.request(Method::Post, &self.path("data", path)).body(&body).send().await?.data()
    }

    /// The newest version.
    pub async fn get(&self, path: &str) -> Result<Secret, Error> {
        self.read(path, None).await
    }

    /// One version.
    pub async fn get_version(&self, path: &str, version: u64) -> Result<Secret, Error> {
        self.read(path, Some(version)).await
    }

    async fn read(&self, path: &str, version: Option<u64>) -> Result<Secret, Error> {
        #[derive(Deserialize)]
        struct Read {
            data: Option<Map<String, Value>>,
            metadata: Option<Version>,
        }
        let path = self.path("data", path);
        let mut request = self.client.request(Method::Get, &path).accept(&[404]);
        if let Some(version) = version {
            request = request.query("version", version.to_string());
        }
        let response = request.send().await?;
        // A deleted version is a 404 that tells which version was deleted; a secret that never was is one that does not.
        let read: Read = match response.data() {
            Ok(read) => read,
            Err(_) if response.status() == 404 => Read { data: None, metadata: None },
            Err(error) => return Err(error),
        };
        match read.metadata {
            Some(version) => Ok(Secret { data: read.data.map(SecretData::from), version }),
            None => Err(response.refusal()),
        }
    }

    /// Deletes the newest version; [`Kv::undelete`] brings it back.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        self.client.request(Method::Delete, &self.path("data", path)).send().await.map(drop)
    }

    /// Deletes these versions; [`Kv::undelete`] brings them back.
    pub async fn delete_versions(&self, path: &str, versions: &[u64]) -> Result<(), Error> {
        self.change_versions("delete", path, versions).await
    }

    /// Brings deleted versions back.
    pub async fn undelete(&self, path: &str, versions: &[u64]) -> Result<(), Error> {
        self.change_versions("undelete", path, versions).await
    }

    /// Removes the values of these versions for good.
    pub async fn destroy(&self, path: &str, versions: &[u64]) -> Result<(), Error> {
        self.change_versions("destroy", path, versions).await
    }

    /// These acts name what they change, so that doing them twice is doing them once.
    async fn change_versions(&self, act: &str, path: &str, versions: &[u64]) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            versions: &'a [u64],
        }
        self.client.request(Method::Post, &self.path(act, path)).body(&Body { versions }).idempotent().send().await.map(drop)
    }

    /// The names below `path` (`""` for the mount itself), sorted; folders end with `/`. Empty when there are none.
    pub async fn list(&self, path: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let path = self.path("metadata", path);
        match self.client.request(Method::List, path.trim_end_matches('/')).send().await {
            Ok(response) => Ok(response.data::<Keys>()?.keys),
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What is known of a secret besides its values.
    pub async fn metadata(&self, path: &str) -> Result<Metadata, Error> {
        self.client.request(Method::Get, &self.path("metadata", path)).send().await?.data()
    }

    /// Removes a secret for good: every version and its metadata.
    pub async fn delete_metadata(&self, path: &str) -> Result<(), Error> {
        self.client.request(Method::Delete, &self.path("metadata", path)).send().await.map(drop)
    }
}
