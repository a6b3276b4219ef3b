//! A producer of transactions that outlives the brokers it speaks to.

use std::time::Duration;

use futures::future::join_all;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, Producer as _};

use crate::kafka::{Record, Sent, deliver};
use crate::unique::unique;
use crate::wait::block_on;

/// One answer of the coordinator; it may just have been killed, and what can be tried again is.
const ATTEMPT: Duration = Duration::from_secs(20);

/// One transactional producer. What it commits is read by everybody, what it aborts by nobody.
pub struct Transactions {
    bootstrap: String,
    producer: FutureProducer,
}

impl Transactions {
    /// A producer with an id of its own.
    pub fn new(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned(), producer: started(bootstrap) }
    }

    /// Sends `records` in one transaction and ends it; where they lie, if it was committed. What the brokers make impossible is aborted.
    pub fn send(&mut self, topic: &str, records: Vec<Record>, commit: bool) -> Option<Vec<Sent>> {
        self.producer.begin_transaction().expect("none is open");
        let deliveries: Vec<_> = records.iter().map(|record| deliver(&self.producer, topic, record, None)).collect();
        let delivered: Result<Vec<_>, KafkaError> = block_on(join_all(deliveries)).into_iter().collect();
        if commit
            && let Ok(delivered) = delivered
            && self.commit()
        {
            let sent = records.into_iter().zip(delivered);
            return Some(sent.map(|(record, (partition, offset))| Sent { record, partition, offset }).collect());
        }
        self.abort();
        None
    }

    /// Whether the transaction is committed; else it has to be aborted.
    fn commit(&self) -> bool {
        loop {
            match self.producer.commit_transaction(ATTEMPT) {
                Ok(()) => return true,
                // Only a repeated commit tells how it ended.
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
                Err(_) => return false,
            }
        }
    }

    fn abort(&mut self) {
        loop {
            match self.producer.abort_transaction(ATTEMPT) {
                Ok(()) => return,
                Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
                // A producer that can go on no more: the coordinator aborts what it left open, at the latest for its successor.
                Err(_) => {
                    self.producer = started(&self.bootstrap);
                    return;
                }
            }
        }
    }
}

fn started(bootstrap: &str) -> FutureProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("transactional.id", unique("transactions"));
    // Shorter than any deadline of a test: what a lost producer left open holds readers back no longer.
    config.set("transaction.timeout.ms", "30000").set("message.timeout.ms", "25000");
    let producer: FutureProducer = config.create().expect("a producer is made");
    loop {
        match producer.init_transactions(ATTEMPT) {
            Ok(()) => return producer,
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            Err(error) => panic!("the brokers know transactions: {error}"),
        }
    }
}
