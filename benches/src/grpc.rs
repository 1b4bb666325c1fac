//! One gRPC connection to Conclave's KV API.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use proto::kv::kv_client::KvClient;
use proto::kv::{GetRequest, PutRequest};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::http::ANSWER_TIMEOUT;

/// A connection of its own (HTTP/2 in the clear), with one request at a time.
pub(crate) struct Connection {
    client: KvClient<Channel>,
    token: MetadataValue<Ascii>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, token: &str) -> Result<Connection> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).context("an address is an endpoint")?;
        let channel = endpoint.tcp_nodelay(true).timeout(ANSWER_TIMEOUT).connect().await.context("connect")?;
        let mut token: MetadataValue<Ascii> = token.parse().context("a token is a metadata value")?;
        token.set_sensitive(true);
        Ok(Connection { client: KvClient::new(channel), token })
    }

    pub(crate) async fn put(&mut self, path: String, data: Vec<u8>) -> Result<()> {
        self.client.put(self.request(PutRequest { mount: "secret".to_owned(), path, data, cas: None })).await?;
        Ok(())
    }

    /// The secret's data: a JSON object.
    pub(crate) async fn get(&mut self, path: String) -> Result<Vec<u8>> {
        let response = self.client.get(self.request(GetRequest { mount: "secret".to_owned(), path, version: 0 })).await?;
        Ok(response.into_inner().data)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-vault-token", self.token.clone());
        request
    }
}
