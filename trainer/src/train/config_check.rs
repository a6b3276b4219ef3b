//! What lies between the values of a training configuration.

use std::fmt::Display;

use astromech_settings::{At, Section, SettingError};

use super::config::{DataSource, TrainConfig};

type Places = <TrainConfig as Section>::Places;

impl TrainConfig {
    /// Notes what the ranges of single values cannot say.
    pub(super) fn check(&self, at: &Places, errors: &mut Vec<SettingError>) {
        self.model.check(&at.model, errors);
        let mut check = Check { config: self, at, errors };
        check.data();
        check.source();
        check.scenes();
        check.loss();
        check.distil();
    }
}

struct Check<'a> {
    config: &'a TrainConfig,
    at: &'a Places,
    errors: &'a mut Vec<SettingError>,
}

impl Check<'_> {
    /// Notes that the value at `at` must be `limit`, where `wrong`.
    fn refuse_if(&mut self, wrong: bool, at: &At, value: impl Display, limit: &str, fix: &str) {
        if wrong {
            self.errors.push(at.error(format!("it is {value} and must be {limit}"), fix));
        }
    }

    fn data(&mut self) {
        let (data, at) = (&self.config.data, &self.at.data);
        let positions = self.config.model.positions;
        let limit = format!("at most model.positions = {positions}");
        self.refuse_if(
            data.max_tokens as i64 > positions,
            &at.max_tokens,
            data.max_tokens,
            &limit,
            "write less, or more positions",
        );
    }

    /// Terms of the objective that another one is needed for, or that exclude each other.
    fn loss(&mut self) {
        let (loss, at, batch) = (&self.config.loss, &self.at.loss, self.config.data.batch as i64);
        let limit = format!("below data.batch = {batch}");
        let wrong = loss.fgr_negatives >= batch;
        self.refuse_if(wrong, &at.fgr_negatives, loss.fgr_negatives, &limit, "write less, or a larger data.batch");
        let (alone, momentum) = (loss.tgd_alpha > 0.0 && !loss.momentum, "write 0, or loss.momentum = true");
        self.refuse_if(alone, &at.tgd_alpha, loss.tgd_alpha, "0 without loss.momentum = true", momentum);
        let (size, token_wise) = (self.config.data.micro_batch, loss.token_wise);
        let fix = "write 0, or loss.token_wise = false";
        self.refuse_if(token_wise && size > 0, &self.at.data.micro_batch, size, "0 with loss.token_wise = true", fix);
        let limit = "false with loss.queue_slots above 0 or loss.momentum = true";
        let wrong = token_wise && (loss.queue_slots > 0 || loss.momentum);
        self.refuse_if(wrong, &at.token_wise, true, limit, "write false, or neither queue nor momentum");
        let wrong = loss.mlm_weight > 0.0 && !self.config.model.mlm_head;
        let fix = "write 0, or model.mlm_head = true";
        self.refuse_if(wrong, &at.mlm_weight, loss.mlm_weight, "0 without model.mlm_head = true", fix);
        let wrong = loss.fgd_weight > 0.0 && !(loss.momentum && loss.mlm_weight > 0.0);
        let limit = "0 without loss.momentum = true and loss.mlm_weight above 0";
        self.refuse_if(wrong, &at.fgd_weight, loss.fgd_weight, limit, "write 0, or give both");
    }

    fn distil(&mut self) {
        let (Some(distil), Some(at)) = (&self.config.distil, &self.at.distil) else { return };
        let none = [distil.similarity_weight, distil.embedding_weight, distil.score_weight].iter().all(|weight| *weight <= 0.0);
        let limit = "above 0 where no other weight of [distil] is";
        self.refuse_if(none, &at.similarity_weight, distil.similarity_weight, limit, "write 1.0");
        let wrong = distil.score_weight > 0.0 && self.config.loss.itm_every == 0;
        let fix = "write 0, or a loss.itm_every above 0";
        self.refuse_if(wrong, &at.score_weight, distil.score_weight, "0 with loss.itm_every = 0", fix);
        let teacher = distil.teacher.display().to_string();
        let both = self.config.matching.is_some();
        self.refuse_if(both, &at.teacher, teacher, "absent where [matching] is given", "take one of the two sections out");
    }

    fn source(&mut self) {
        let (data, at) = (&self.config.data, &self.at.data);
        let streams = data.source == DataSource::Stream;
        if let Some(set) = data.set.filter(|set| set.is_matching()) {
            let fix = "pairs with labels go to matching.train";
            self.refuse_if(true, &at.set, set.name(), "icr, iqr or flickr30k-cna", fix);
        }
        let empty = streams && data.stream.shards.is_empty();
        let fix = "write data.stream.shards = [\"FOLDER\"]";
        self.refuse_if(empty, &at.stream.shards, "empty", "a list of shards where data.source is stream", fix);
        let filters = [(&at.licences, &data.licences), (&at.domains, &data.domains)];
        for (at, list) in filters {
            let (wrong, limit) = (streams && !list.is_empty(), "empty where data.source is stream");
            self.refuse_if(wrong, at, list.join(", "), limit, "choose the shards instead");
        }
        let wrong = streams && data.one_domain_fraction > 0.0;
        let limit = "0 where data.source is stream";
        self.refuse_if(wrong, &at.one_domain_fraction, data.one_domain_fraction, limit, "write 0.0");
        let wrong = data.corpus.as_os_str().is_empty() && !(streams && self.config.eval.tasks.is_empty());
        let limit = "the corpus folder, unless a stream trains without eval.tasks";
        self.refuse_if(wrong, &at.corpus, "missing", limit, "write data.corpus = \"FOLDER\"");
    }

    fn scenes(&mut self) {
        let (Some(scenes), Some(at)) = (&self.config.data.scenes, &self.at.data.scenes) else { return };
        let batch = self.config.data.batch;
        let limit = format!("at least 2 scenes of data.batch = {batch}");
        self.refuse_if(scenes.count(batch) < 2, &at.share, scenes.share, &limit, "write more, or take data.scenes out");
        let none = scenes.corpus.is_none() && self.config.data.corpus.as_os_str().is_empty();
        self.refuse_if(none, &at.corpus, "missing", "a corpus's folder where data.corpus is none", "write corpus = \"FOLDER\"");
        let both = self.config.matching.is_some();
        let fix = "take one of the two sections out";
        self.refuse_if(both, &at.share, scenes.share, "absent where [matching] is given", fix);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "[model]\nembed = 32\n[model.vision]\nwidth = 32\nlayers = 2\nheads = 3\nmlp = 64\npatch = 8\nimage = 32\n\
                         [model.text]\nwidth = 32\nlayers = 1\nheads = 2\nmlp = 64\n[model.cross]\nlayers = 0\nheads = 2\nmlp = 64\n";

    fn read(text: &str, overrides: &[&str]) -> Result<TrainConfig, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.toml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|given| (*given).to_owned()).collect();
        TrainConfig::read(&path, &overrides).map_err(|errors| errors.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_line_or_set_field_and_fix() {
        let text = format!(
            "{MODEL}[data]\nbatch = 1\nworking_pixels = 96\npatch_keep = 1.5\n[loss]\nitm_every = \"4\"\ntgd_alpha = 0.4\n\
             [optim]\nlr = 0\nschedule = {{ kind = \"triangular\", up_steps = 0 }}\n[evl]\n[run]\nout = \"run\"\n"
        );
        let errors = read(&text, &["optim.ema=2", "run.device=gpu", "run.thread=2", "steps=1"]).unwrap_err();
        let expected = [
            "line 4: model.vision.width: 32 is no multiple of model.vision.heads = 3; fix: write a multiple of 3, or another \
             model.vision.heads",
            "line 16: model.cross.layers: 0 is outside 1 to 16777216; fix: write a whole number from 1 to 16777216",
            "line 19: data.corpus: it is missing and must be the corpus folder, unless a stream trains without eval.tasks; fix: write \
             data.corpus = \"FOLDER\"",
            "line 19: data.vocabulary: missing; fix: write vocabulary = \"vocab.txt\" in [data]",
            "line 20: data.batch: 1 is outside 2 or more; fix: write a whole number of at least 2",
            "line 21: data.working_pixels: unknown key; fix: did you mean `working_px`?",
            "line 22: data.patch_keep: 1.5 is outside 0 to 1; fix: write a number from 0 to 1",
            "line 24: loss.itm_every: expected a whole number, found a string; fix: write a whole number",
            "line 25: loss.tgd_alpha: it is 0.4 and must be 0 without loss.momentum = true; fix: write 0, or loss.momentum = true",
            "line 27: optim.lr: 0 is not above 0; fix: write a number above 0",
            "line 28: optim.schedule.low: missing for this kind of schedule; fix: write low = 0.05",
            "line 28: optim.schedule.up_steps: 0 is outside 1 or more; fix: write a whole number of at least 1",
            "line 29: evl: unknown key; fix: did you mean `eval`?",
            "--set: optim.ema: 2 is outside 0 to 1; fix: write a number from 0 to 1",
            "--set: run.device: `gpu` is no device; fix: write \"cpu\", \"cuda\" or \"cuda:N\" with N from 0",
            "--set: run.thread: unknown key; fix: did you mean `threads`?",
            "--set: steps: the key has no section; fix: write it as section.key=value",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn a_schedule_takes_what_its_kind_needs_and_nothing_else() {
        let rest = "[data]\nvocabulary = \"v\"\ncorpus = \"c\"\n[run]\nout = \"run\"\n";
        let text = MODEL.replace("heads = 3", "heads = 4").replace("layers = 0", "layers = 1") + rest;
        let kind = |given: &str| read(&text, &[given]).map(|config| config.optim.schedule);
        let per_epoch = kind("optim.schedule={ kind = \"cosine_per_epoch\", warmup_from = 0.1 }").unwrap();
        assert_eq!(per_epoch, super::super::config_parts::ScheduleKind::CosinePerEpoch { warmup_from: 0.1 });
        let low = kind("optim.schedule={ kind = \"cosine\", low = 0.1 }").unwrap_err();
        assert_eq!(low, ["--set: optim.schedule.low: not of this kind of schedule; fix: take it out, or choose another kind"]);
    }
}
