//! A broker and a Qdrant that let nobody in without proof, and what it takes to be let in.

use std::path::{Path, PathBuf};

use crate::authority::{Authority, Certified};
use crate::kafka::KafkaClient;
use crate::servers::{Kafka, QdrantServer, read_env};

/// Both servers by TLS, and the files of a daemon that may use them.
pub struct Secured {
    /// Vouches for both servers, and for the daemon.
    pub authority: Authority,
    /// The broker; its plain listener is the harness's own.
    pub kafka: Kafka,
    /// `host:port` of the listener that asks for SASL over TLS.
    pub sasl_ssl: String,
    /// `host:port` of the listener that asks for a certificate.
    pub mtls: String,
    /// The server, by TLS and with a key.
    pub qdrant: QdrantServer,
    /// The harness's own client of the broker.
    pub client: KafkaClient,
    folder: PathBuf,
}

impl Secured {
    /// Starts both in `folder`. `password` is that of the broker's user `astromech`, `api_key` Qdrant's.
    pub fn start(folder: &Path, password: &str, api_key: &str) -> Self {
        let authority = Authority::default();
        let server = authority.issue("localhost");
        let write = |path: &str, text: &str| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("the folder is made");
            std::fs::write(path, text).expect("the file is written");
        };
        write("kafka/secured/server.pem", &format!("{}{}", server.key, server.certificate));
        write("kafka/secured/ca.pem", &authority.pem());
        write("kafka/secured/password", password);
        server.write(&folder.join("qdrant/secured"));
        write("qdrant/secured/api-key", api_key);
        write("files/ca.pem", &authority.pem());
        write("files/password", password);
        write("files/api-key", api_key);
        authority.issue("astromech").write(&folder.join("files"));
        let qdrant = QdrantServer::start(&folder.join("qdrant"));
        let kafka = Kafka::start(&folder.join("kafka"));
        let mut env = read_env(&kafka.dir.join("kafka.env"));
        let mut listener = |name: &str| env.remove(name).unwrap_or_else(|| panic!("{name} is not in kafka.env"));
        let (sasl_ssl, mtls) = (listener("KAFKA_SASL_SSL"), listener("KAFKA_MTLS"));
        let client = KafkaClient::new(&kafka.bootstrap);
        Self { authority, kafka, sasl_ssl, mtls, qdrant, client, folder: folder.to_owned() }
    }

    /// One of the daemon's files: `ca.pem`, `password`, `api-key`, `certificate.pem`, `key.pem`.
    pub fn file(&self, name: &str) -> String {
        self.folder.join("files").join(name).to_string_lossy().into_owned()
    }

    /// A certificate for the name of this machine.
    pub fn certified(&self) -> Certified {
        self.authority.issue("localhost")
    }
}
