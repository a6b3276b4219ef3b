//! Ranges of a training configuration that its types cannot hold.

use super::config::{DataSource, TrainConfig, TrainConfigError};
use super::config_parts::ScheduleKind;

fn refuse<T>(field: &'static str, value: impl std::fmt::Display, limit: &'static str) -> Result<T, TrainConfigError> {
    Err(TrainConfigError::Range { field, value: format!("{value}"), limit })
}

fn fraction(field: &'static str, value: f64) -> Result<(), TrainConfigError> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { refuse(field, value, "within 0 and 1") }
}

fn at_least(field: &'static str, value: usize, limit: &'static str, minimum: usize) -> Result<(), TrainConfigError> {
    if value >= minimum { Ok(()) } else { refuse(field, value, limit) }
}

impl TrainConfig {
    /// Checks ranges that the types cannot.
    ///
    /// # Errors
    /// The first value outside its range.
    pub fn validate(&self) -> Result<(), TrainConfigError> {
        self.model.validate()?;
        fraction("data.patch_keep", self.data.patch_keep)?;
        fraction("data.one_domain_fraction", self.data.one_domain_fraction)?;
        at_least("data.batch", self.data.batch, "at least 2", 2)?;
        at_least("data.working_px", self.data.working_px, "at least 8", 8)?;
        at_least("data.max_tokens", self.data.max_tokens, "at least 3", 3)?;
        if self.data.max_tokens as i64 > self.model.positions {
            return refuse("data.max_tokens", self.data.max_tokens, "at most model.positions");
        }
        self.validate_source()?;
        self.validate_loss()?;
        self.validate_distil()?;
        self.validate_optim()
    }

    /// Terms of the objective that another one is needed for, or that exclude each other.
    fn validate_loss(&self) -> Result<(), TrainConfigError> {
        let loss = &self.loss;
        fraction("loss.label_smoothing", loss.label_smoothing)?;
        fraction("loss.dropout", loss.dropout)?;
        fraction("loss.queue_decay", loss.queue_decay)?;
        fraction("loss.tgd_alpha", loss.tgd_alpha)?;
        fraction("loss.tgd_start_progress", loss.tgd_start_progress)?;
        fraction("loss.mlm_probability", loss.mlm_probability)?;
        if !(1..self.data.batch as i64).contains(&loss.fgr_negatives) {
            return refuse("loss.fgr_negatives", loss.fgr_negatives, "at least 1 and below data.batch");
        }
        if !(loss.fgr_listwise_weight.is_finite() && loss.fgr_listwise_weight >= 0.0) {
            return refuse("loss.fgr_listwise_weight", loss.fgr_listwise_weight, "0 or above");
        }
        if loss.tgd_alpha > 0.0 && !loss.momentum {
            return refuse("loss.tgd_alpha", loss.tgd_alpha, "0 without loss.momentum = true");
        }
        if loss.token_wise && self.data.micro_batch > 0 {
            return refuse("data.micro_batch", self.data.micro_batch, "0 with loss.token_wise = true");
        }
        if loss.token_wise && (loss.queue_slots > 0 || loss.momentum) {
            return refuse("loss.token_wise", true, "false with loss.queue_slots above 0 or loss.momentum = true");
        }
        if loss.mlm_weight > 0.0 && !self.model.mlm_head {
            return refuse("loss.mlm_weight", loss.mlm_weight, "0 without model.mlm_head = true");
        }
        if loss.fgd_weight > 0.0 && !(loss.momentum && loss.mlm_weight > 0.0) {
            let limit = "0 without loss.momentum = true and loss.mlm_weight above 0";
            return refuse("loss.fgd_weight", loss.fgd_weight, limit);
        }
        Ok(())
    }

    fn validate_distil(&self) -> Result<(), TrainConfigError> {
        let Some(distil) = &self.distil else { return Ok(()) };
        let weights = [
            ("distil.similarity_weight", distil.similarity_weight),
            ("distil.embedding_weight", distil.embedding_weight),
            ("distil.score_weight", distil.score_weight),
        ];
        if let Some((field, weight)) = weights.into_iter().find(|(_, weight)| !(weight.is_finite() && *weight >= 0.0)) {
            return refuse(field, weight, "0 or above");
        }
        if weights.iter().all(|(_, weight)| *weight <= 0.0) {
            return refuse("distil.similarity_weight", 0, "above 0 where no other weight of [distil] is");
        }
        if distil.temperature <= 0.0 {
            return refuse("distil.temperature", distil.temperature, "above 0");
        }
        if distil.score_weight > 0.0 && self.loss.itm_every == 0 {
            return refuse("distil.score_weight", distil.score_weight, "0 with loss.itm_every = 0");
        }
        if self.matching.is_some() {
            return refuse("distil.teacher", distil.teacher.display(), "absent where [matching] is given");
        }
        Ok(())
    }

    fn validate_optim(&self) -> Result<(), TrainConfigError> {
        let optim = &self.optim;
        fraction("optim.ema", optim.ema)?;
        if optim.lr <= 0.0 {
            return refuse("optim.lr", optim.lr, "above 0");
        }
        match optim.schedule {
            ScheduleKind::Cosine => {}
            ScheduleKind::CosinePerEpoch { warmup_from } => fraction("optim.schedule.warmup_from", warmup_from)?,
            ScheduleKind::Triangular { up_steps, low } => {
                fraction("optim.schedule.low", low)?;
                at_least("optim.schedule.up_steps", up_steps as usize, "at least 1", 1)?;
            }
        }
        if optim.steps == 0 { refuse("optim.steps", 0, "at least 1") } else { Ok(()) }
    }

    fn validate_source(&self) -> Result<(), TrainConfigError> {
        let streams = self.data.source == DataSource::Stream;
        if let Some(set) = self.data.set.filter(|set| set.is_matching()) {
            return refuse("data.set", set.name(), "icr, iqr or flickr30k-cna; pairs with labels go to matching.train");
        }
        if streams && self.data.stream.shards.is_empty() {
            return refuse("data.stream.shards", "empty", "a list of shards where data.source is stream");
        }
        let filters = [("data.licences", &self.data.licences), ("data.domains", &self.data.domains)];
        if let Some((field, list)) = filters.into_iter().find(|(_, list)| streams && !list.is_empty()) {
            return refuse(field, list.join(", "), "empty where data.source is stream: choose the shards instead");
        }
        if streams && self.data.one_domain_fraction > 0.0 {
            let value = self.data.one_domain_fraction.to_string();
            return refuse("data.one_domain_fraction", value, "0 where data.source is stream");
        }
        if streams && !(0.0..=1.0).contains(&self.data.stream.fault_fraction_max) {
            let value = self.data.stream.fault_fraction_max.to_string();
            return refuse("data.stream.fault_fraction_max", value, "within 0 and 1");
        }
        if self.data.corpus.as_os_str().is_empty() && !(streams && self.eval.tasks.is_empty()) {
            return refuse("data.corpus", "missing", "the corpus folder, unless a stream trains without eval.tasks");
        }
        Ok(())
    }
}
