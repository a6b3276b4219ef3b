//! An endless stream of records out of many shards: shared out to workers, in an order that follows from seed and epoch, mixed by a
//! buffer, and resumed at any record.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use astromech_settings::kinds::{float, int, list, path, text};
use astromech_settings::{Value as _, defaults, settings};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::columns::{Columns, Lookup};
use super::fault::{FaultKind, FaultLimits, Ledger, ShardFault, ZeroError};
use super::record::ZeroRecord;
use super::shards::{Rows, Shard, list_shards};

settings! {
    /// What is streamed, `[data.stream]`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct StreamSettings {
        /// Files, folders and patterns of shards: .jsonl, .tsv (also .gz), .tar, .parquet.
        shards: Vec<String> = [] => list(text());
        /// Folder that paths of pictures are relative to; none takes each shard's own.
        image_root: Option<PathBuf> = optional => path().or_none();
        /// Names of columns, where they differ from the usual ones.
        columns: Columns;
        /// Names of the columns of TSV files without a header.
        tsv_columns: Option<Vec<String>> = optional => list(text()).or_none();
        /// Records that wait in the shuffle buffer; 0 and 1 keep the order of the shards. Pictures of tar shards and files stay on disk
        /// meanwhile, those inside Parquet and JSON are in memory. Our choice: no source names one.
        shuffle_records: usize = 10000 => int(0, u64::MAX);
        /// This worker, from 0: shard i of the sorted names goes to worker i mod `workers`.
        worker: usize = 0 => int(0, u64::MAX);
        /// Workers that share the shards.
        workers: usize = 1 => int(0, u64::MAX);
        /// Faults borne over the whole run; see [`FaultLimits`] for this and the next two.
        faults_max: u64 = 100000 => int(0, u64::MAX);
        /// Part of the last `fault_window` records that may be faulty.
        fault_fraction_max: f64 = 0.1 => float(0.0, 1.0);
        /// Records that the fraction is taken over.
        fault_window: usize = 2000 => int(0, u64::MAX);
    }
}

impl Default for StreamSettings {
    fn default() -> Self {
        defaults()
    }
}

impl StreamSettings {
    /// The faults that are borne.
    pub fn limits(&self) -> FaultLimits {
        FaultLimits { faults_max: self.faults_max, fault_fraction_max: self.fault_fraction_max, fault_window: self.fault_window }
    }
}

/// Where a stream is: enough to go on exactly, by reading again only the shards whose records wait in the buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// What the order follows from, in words: seed, buffer, workers, shards.
    pub of: String,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Records given out in this epoch.
    pub consumed: u64,
    /// Records read in this epoch: those given out and those in the buffer.
    pub read: u64,
    /// Records given out in all epochs.
    pub drawn: u64,
    /// Shards still needed: place in the epoch's order, and number of its first record.
    pub shards: Vec<(usize, u64)>,
    /// All shards of the epoch were read to their ends.
    pub exhausted: bool,
    /// Faults so far.
    pub faults: BTreeMap<FaultKind, u64>,
}

/// A record given out.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The record.
    pub record: ZeroRecord,
    /// Its number over all epochs, from 0, in the order given out.
    pub number: u64,
}

/// The stream.
pub struct RecordStream {
    settings: StreamSettings,
    lookup: Arc<Lookup>,
    seed: u64,
    shards: Vec<Shard>,
    /// Faults, the decoder's too.
    pub ledger: Ledger,
    epoch: u64,
    consumed: u64,
    read: u64,
    drawn: u64,
    order: Vec<usize>,
    /// Place in `order` of the shard that is opened next.
    next_shard: usize,
    open: Option<Rows>,
    starts: VecDeque<(usize, u64)>,
    buffer: Vec<(u64, ZeroRecord)>,
    rng: StdRng,
}

impl RecordStream {
    /// Opens a stream at its beginning.
    ///
    /// # Errors
    /// No shards are there, or fewer than workers.
    pub fn open(settings: StreamSettings, seed: u64) -> Result<Self, ZeroError> {
        let shards = list_shards(&settings.shards)?;
        Self::over(shards, settings, seed)
    }

    /// A stream over given shards.
    ///
    /// # Errors
    /// Fewer shards than workers, or a worker beyond their number.
    pub fn over(shards: Vec<Shard>, settings: StreamSettings, seed: u64) -> Result<Self, ZeroError> {
        let (worker, workers) = (settings.worker, settings.workers);
        if worker >= workers {
            let (field, value) = ("data.stream.worker", worker.to_string());
            return Err(ZeroError::Setting { field, value, limit: "below data.stream.workers" });
        }
        let all = shards.len();
        let shards: Vec<Shard> = shards.into_iter().skip(worker).step_by(workers).collect();
        if shards.is_empty() {
            return Err(ZeroError::TooFewShards { workers, worker, shards: all });
        }
        let lookup = Arc::new(Lookup::new(settings.columns.clone()));
        let ledger = Ledger::new(settings.limits());
        let mut stream = Self {
            settings,
            lookup,
            seed,
            shards,
            ledger,
            epoch: 0,
            consumed: 0,
            read: 0,
            drawn: 0,
            order: Vec::new(),
            next_shard: 0,
            open: None,
            starts: VecDeque::new(),
            buffer: Vec::new(),
            rng: StdRng::seed_from_u64(0),
        };
        stream.begin_epoch(0);
        Ok(stream)
    }

    /// Shards of this worker.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The epoch of the record drawn last.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn begin_epoch(&mut self, epoch: u64) {
        // Neighbouring seeds, epochs and workers must not share an order.
        let stream = self.seed ^ epoch.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (self.settings.worker as u64).rotate_left(40);
        self.rng = StdRng::seed_from_u64(stream);
        self.order = (0..self.shards.len()).collect();
        if self.settings.shuffle_records > 1 {
            self.order.shuffle(&mut self.rng);
        }
        (self.epoch, self.consumed, self.read, self.next_shard) = (epoch, 0, 0, 0);
        self.open = None;
        self.starts.clear();
        self.buffer.clear();
    }

    /// The next record; the stream goes on into the next epoch by itself.
    ///
    /// # Errors
    /// The fault budget is spent, or a whole epoch held no record.
    pub fn draw(&mut self) -> Result<Drawn, ZeroError> {
        loop {
            let wanted = self.settings.shuffle_records.max(1);
            while self.buffer.len() < wanted {
                let Some(record) = self.read_one(true)? else { break };
                self.buffer.push((self.read, record));
                self.read += 1;
            }
            if self.buffer.is_empty() {
                if self.consumed == 0 {
                    let (counts, first) = (self.ledger.summary(), self.ledger.first().unwrap_or("they are empty").to_owned());
                    return Err(ZeroError::Empty { shards: self.shards.len(), counts, first });
                }
                tracing::info!(epoch = self.epoch, records = self.consumed, faults = self.ledger.summary(), "epoch done");
                self.begin_epoch(self.epoch + 1);
                continue;
            }
            let chosen = self.rng.random_range(0..self.buffer.len() as u64) as usize;
            let (_, record) = self.buffer.swap_remove(chosen);
            self.consumed += 1;
            self.drawn += 1;
            return Ok(Drawn { record, number: self.drawn - 1 });
        }
    }

    /// Counts a fault of a record that was given out.
    ///
    /// # Errors
    /// The fault budget is spent.
    pub fn fault(&mut self, fault: &ShardFault) -> Result<(), ZeroError> {
        self.ledger.turned_bad(fault)
    }

    /// Reads the next good record of the epoch; none at its end. Faults are counted where `counted`.
    fn read_one(&mut self, counted: bool) -> Result<Option<ZeroRecord>, ZeroError> {
        loop {
            if self.open.is_none() {
                let Some(&shard) = self.order.get(self.next_shard) else { return Ok(None) };
                self.starts.push_back((self.next_shard, self.read));
                self.next_shard += 1;
                self.open_shard(shard, counted)?;
            }
            let Some(rows) = &mut self.open else { continue };
            let Some(row) = rows.next() else {
                self.open = None;
                continue;
            };
            let root = self.settings.image_root.as_deref();
            match row.and_then(|row| ZeroRecord::from_row(row, &self.lookup, root)) {
                Ok(record) => {
                    if counted {
                        self.ledger.good();
                    }
                    return Ok(Some(record));
                }
                Err(fault) if counted => self.ledger.bad(&fault)?,
                Err(_) => {}
            }
        }
    }

    fn open_shard(&mut self, shard: usize, counted: bool) -> Result<(), ZeroError> {
        match self.shards[shard].open(&self.lookup, self.settings.tsv_columns.as_deref()) {
            Ok(rows) => self.open = Some(rows),
            Err(fault) if counted => self.ledger.bad(&fault)?,
            Err(_) => {}
        }
        Ok(())
    }

    /// Where the stream is, to go on by [`RecordStream::resume`].
    pub fn position(&mut self) -> Position {
        let oldest = self.buffer.iter().map(|(ordinal, _)| *ordinal).min().unwrap_or(self.read);
        while self.starts.get(1).is_some_and(|&(_, first)| first <= oldest) {
            self.starts.pop_front();
        }
        Position {
            of: self.identity(),
            epoch: self.epoch,
            consumed: self.consumed,
            read: self.read,
            drawn: self.drawn,
            shards: self.starts.iter().copied().collect(),
            exhausted: self.open.is_none() && self.next_shard >= self.order.len(),
            faults: self.ledger.counts().clone(),
        }
    }

    /// Goes on where another stream of the same shards, settings and seed was. The buffer is found by drawing the same numbers again,
    /// without records; then only the shards are read whose records are in it, and no picture.
    ///
    /// # Errors
    /// The shards do not hold what they held.
    pub fn resume(&mut self, position: &Position) -> Result<(), ZeroError> {
        if position.of != self.identity() {
            let message = format!("the position is of a stream of {}, this one is of {}", position.of, self.identity());
            return Err(self.changed(0, message));
        }
        self.begin_epoch(position.epoch);
        let wanted = self.settings.shuffle_records.max(1);
        let mut ordinals: Vec<u64> = Vec::with_capacity(wanted.min(position.read as usize));
        let mut read = 0;
        for _ in 0..position.consumed {
            while ordinals.len() < wanted && read < position.read {
                ordinals.push(read);
                read += 1;
            }
            if ordinals.is_empty() {
                return Err(self.changed(0, "the position has more records given out than read".to_owned()));
            }
            let chosen = self.rng.random_range(0..ordinals.len() as u64) as usize;
            ordinals.swap_remove(chosen);
        }
        let mut slots: HashMap<u64, usize> = ordinals.iter().enumerate().map(|(slot, &ordinal)| (ordinal, slot)).collect();
        let mut found: Vec<Option<(u64, ZeroRecord)>> = vec![None; ordinals.len()];
        for (index, &(place, first)) in position.shards.iter().enumerate() {
            let end = position.shards.get(index + 1).map(|&(_, first)| first);
            if end.is_some_and(|end| !(first..end).any(|ordinal| slots.contains_key(&ordinal))) {
                continue;
            }
            self.replay(place, first, end, position.read, &mut slots, &mut found)?;
        }
        if let Some(missing) = slots.keys().min() {
            return Err(self.changed(
                self.next_shard.saturating_sub(1),
                format!("record {missing} of the epoch is in no shard of the position"),
            ));
        }
        self.buffer = found.into_iter().flatten().collect();
        if position.exhausted {
            // Faults behind the last record were counted before.
            (self.next_shard, self.open) = (self.order.len(), None);
        }
        (self.consumed, self.read, self.drawn) = (position.consumed, position.read, position.drawn);
        self.starts = position.shards.iter().copied().collect();
        self.ledger.restore(position.faults.clone());
        Ok(())
    }

    /// Reads one shard again from its first record, up to its `end` or, in the last one, to the position.
    fn replay(
        &mut self,
        place: usize,
        first: u64,
        end: Option<u64>,
        read: u64,
        slots: &mut HashMap<u64, usize>,
        found: &mut [Option<(u64, ZeroRecord)>],
    ) -> Result<(), ZeroError> {
        if place >= self.order.len() {
            return Err(self.changed(0, format!("the position names shard {place} of {}", self.order.len())));
        }
        (self.next_shard, self.open) = (place, None);
        let stop = end.unwrap_or(read);
        self.read = first;
        while self.read < stop {
            let record = self.read_one(false)?.filter(|_| self.next_shard == place + 1);
            let Some(record) = record else {
                return Err(
                    self.changed(place, format!("it has {} records, it had at least {}", self.read - first, stop - first))
                );
            };
            if let Some(slot) = slots.remove(&self.read) {
                found[slot] = Some((self.read, record));
            }
            self.read += 1;
        }
        Ok(())
    }

    fn identity(&self) -> String {
        let s = &self.settings;
        let (worker, workers, shards) = (s.worker, s.workers, self.shards.len());
        format!("seed {}, shuffle_records {}, worker {worker} of {workers}, {shards} shards", self.seed, s.shuffle_records)
    }

    fn changed(&self, place: usize, message: String) -> ZeroError {
        let path = self.order.get(place).map(|&shard| self.shards[shard].path.to_path_buf()).unwrap_or_default();
        ZeroError::Changed { path, message }
    }
}
