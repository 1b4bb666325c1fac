# The same for every node of docker-compose.yml; only the name in the environment differs.
cluster_name = "conclave"
log_format   = "json"

listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/etc/conclave/tls/node.pem"
  tls_key_file  = "/etc/conclave/tls/node-key.pem"
}

storage "raft" {
  path    = "/var/lib/conclave/data"
  node_id = "env://CONCLAVE_NODE_ID"
}

cluster {
  listen        = "0.0.0.0:8201"
  tls_ca_file   = "/etc/conclave/tls/ca.pem"
  tls_cert_file = "/etc/conclave/tls/node.pem"
  tls_key_file  = "/etc/conclave/tls/node-key.pem"

  member "n1" {
    cluster_addr = "https://n1:8201"
    api_addr     = "https://n1:8200"
  }
  member "n2" {
    cluster_addr = "https://n2:8201"
    api_addr     = "https://n2:8200"
  }
  member "n3" {
    cluster_addr = "https://n3:8201"
    api_addr     = "https://n3:8200"
  }
}
