//! Keys of Hugging Face's and timm's towers → official keys (docs/R2D2.md §5.3).

/// Beginning of the image tower's keys.
pub(super) const VISION: &str = "visual_encoder.";
/// Beginning of the text tower's keys.
pub(super) const TEXT: &str = "text_encoder.";
/// Beginning of the keys of masked language modelling's head, the same in BERT and here.
pub(super) const HEAD: &str = "cls.predictions.";

/// What of a tensor goes to a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// All of it.
    Whole,
    /// One third of the rows: queries, keys and values in one matrix.
    Third(i64),
    /// It is added to the patches' rows of the parameter: a patch embedding's bias, for which there is no place of its own.
    PatchBias,
}

/// What becomes of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It fills these parameters.
    Take(Vec<(String, Slot)>),
    /// It carries nothing of its own.
    Ignore,
    /// There is no place for it.
    Extra,
}

fn whole(target: String) -> Fate {
    Fate::Take(vec![(target, Slot::Whole)])
}

/// The part of the first key that ends in `suffix` before it; of several the shortest.
fn prefix_before<'a>(keys: impl Iterator<Item = &'a str>, suffix: &str) -> Option<&'a str> {
    keys.filter_map(|key| key.strip_suffix(suffix))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .min_by_key(|prefix| prefix.len())
}

/// A file that holds a BERT.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextFormat<'a> {
    /// `bert.`, `text_encoder.`, or nothing.
    prefix: &'a str,
}

impl<'a> TextFormat<'a> {
    /// Finds the tower by its word table.
    pub(super) fn find(keys: impl Iterator<Item = &'a str>) -> Option<Self> {
        Some(Self { prefix: prefix_before(keys, "embeddings.word_embeddings.weight")? })
    }

    pub(super) fn fate(self, key: &str) -> Fate {
        // The names of TensorFlow's LayerNorm, which the first PyTorch conversions kept.
        let key = match key.strip_suffix("LayerNorm.gamma").map(|start| format!("{start}LayerNorm.weight")) {
            Some(renamed) => renamed,
            None => key.strip_suffix("LayerNorm.beta").map_or_else(|| key.to_owned(), |start| format!("{start}LayerNorm.bias")),
        };
        if key.starts_with(HEAD) {
            // The decoder is the word table, and its bias the head's.
            return if key.contains(".decoder.") { Fate::Ignore } else { whole(key) };
        }
        let Some(rest) = key.strip_prefix(self.prefix) else { return Fate::Extra };
        if rest.ends_with("position_ids") {
            return Fate::Ignore;
        }
        let known = ["embeddings.", "encoder.layer.", "pooler.dense."].iter().any(|start| rest.starts_with(start));
        if known { whole(format!("{TEXT}{rest}")) } else { Fate::Extra }
    }
}

/// A file that holds a vision transformer.
#[derive(Debug, Clone, Copy)]
pub(super) struct VisionFormat<'a> {
    kind: VisionKind,
    prefix: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VisionKind {
    /// Hugging Face's CLIP, whose names are the official ones.
    Clip,
    /// Hugging Face's ViT.
    Vit,
    /// timm's vision transformer.
    Timm,
}

impl<'a> VisionFormat<'a> {
    /// Finds the tower by its class token.
    pub(super) fn find(keys: &(impl Iterator<Item = &'a str> + Clone)) -> Option<Self> {
        let kinds = [
            (VisionKind::Clip, "embeddings.class_embedding"),
            (VisionKind::Vit, "embeddings.cls_token"),
            (VisionKind::Timm, "cls_token"),
        ];
        kinds.into_iter().find_map(|(kind, suffix)| Some(Self { kind, prefix: prefix_before(keys.clone(), suffix)? }))
    }

    /// Name for people.
    pub(super) fn name(self) -> &'static str {
        match self.kind {
            VisionKind::Clip => "CLIP's vision tower",
            VisionKind::Vit => "ViT",
            VisionKind::Timm => "timm's vision transformer",
        }
    }

    /// True where files of the format have no LayerNorm before the blocks, and compute another GELU.
    pub(super) fn is_plain_vit(self) -> bool {
        self.kind != VisionKind::Clip
    }

    pub(super) fn fate(self, key: &str) -> Fate {
        let Some(rest) = key.strip_prefix(self.prefix) else { return Fate::Extra };
        if rest.ends_with("position_ids") {
            return Fate::Ignore;
        }
        let targets = match self.kind {
            VisionKind::Clip => clip(rest),
            VisionKind::Vit => vit(rest),
            VisionKind::Timm => timm(rest),
        };
        let Some(targets) = targets else { return Fate::Extra };
        Fate::Take(targets.into_iter().map(|(target, slot)| (format!("{VISION}{target}"), slot)).collect())
    }
}

type Targets = Option<Vec<(String, Slot)>>;

const POSITIONS: &str = "embeddings.position_embedding.weight";
const PROJECTIONS: [&str; 3] = ["q_proj", "k_proj", "v_proj"];

fn one(target: &str) -> Vec<(String, Slot)> {
    vec![(target.to_owned(), Slot::Whole)]
}

fn clip(rest: &str) -> Targets {
    let known = ["embeddings.", "pre_layrnorm.", "encoder.layers.", "post_layernorm."];
    if known.iter().any(|start| rest.starts_with(start)) { Some(one(rest)) } else { None }
}

/// `<start><number>.<rest>`.
fn layer<'a>(key: &'a str, start: &str) -> Option<(&'a str, &'a str)> {
    key.strip_prefix(start)?.split_once('.').filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Splits `<name>.weight` or `<name>.bias`.
fn leaf(key: &str) -> Option<(&str, &str)> {
    key.rsplit_once('.').filter(|(_, kind)| ["weight", "bias"].contains(kind))
}

fn vit(rest: &str) -> Targets {
    match rest {
        "embeddings.cls_token" => return Some(one("embeddings.class_embedding")),
        "embeddings.position_embeddings" => return Some(one(POSITIONS)),
        "embeddings.patch_embeddings.projection.weight" => return Some(one("embeddings.patch_embedding.weight")),
        "embeddings.patch_embeddings.projection.bias" => return Some(vec![(POSITIONS.to_owned(), Slot::PatchBias)]),
        _ => {}
    }
    if let Some(kind) = rest.strip_prefix("layernorm.") {
        return Some(one(&format!("post_layernorm.{kind}")));
    }
    let (number, part) = layer(rest, "encoder.layer.")?;
    let (name, kind) = leaf(part)?;
    let own = match name {
        "attention.attention.query" => "self_attn.q_proj",
        "attention.attention.key" => "self_attn.k_proj",
        "attention.attention.value" => "self_attn.v_proj",
        "attention.output.dense" => "self_attn.out_proj",
        "layernorm_before" => "layer_norm1",
        "layernorm_after" => "layer_norm2",
        "intermediate.dense" => "mlp.fc1",
        "output.dense" => "mlp.fc2",
        _ => return None,
    };
    Some(one(&format!("encoder.layers.{number}.{own}.{kind}")))
}

fn timm(rest: &str) -> Targets {
    match rest {
        "cls_token" => return Some(one("embeddings.class_embedding")),
        "pos_embed" => return Some(one(POSITIONS)),
        "patch_embed.proj.weight" => return Some(one("embeddings.patch_embedding.weight")),
        "patch_embed.proj.bias" => return Some(vec![(POSITIONS.to_owned(), Slot::PatchBias)]),
        _ => {}
    }
    for (start, own) in [("norm_pre.", "pre_layrnorm."), ("norm.", "post_layernorm.")] {
        if let Some(kind) = rest.strip_prefix(start) {
            return Some(one(&format!("{own}{kind}")));
        }
    }
    let (number, part) = layer(rest, "blocks.")?;
    let (name, kind) = leaf(part)?;
    let own = match name {
        "attn.qkv" => {
            let third = |(index, projection): (usize, &str)| {
                (format!("encoder.layers.{number}.self_attn.{projection}.{kind}"), Slot::Third(index as i64))
            };
            return Some(PROJECTIONS.into_iter().enumerate().map(third).collect());
        }
        "attn.proj" => "self_attn.out_proj",
        "norm1" => "layer_norm1",
        "norm2" => "layer_norm2",
        "mlp.fc1" => "mlp.fc1",
        "mlp.fc2" => "mlp.fc2",
        _ => return None,
    };
    Some(one(&format!("encoder.layers.{number}.{own}.{kind}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_bert_is_found_with_and_without_its_prefix() {
        for prefix in ["", "bert.", "text_encoder."] {
            let keys = [format!("{prefix}embeddings.word_embeddings.weight")];
            let format = TextFormat::find(keys.iter().map(String::as_str)).unwrap();
            let fate = format.fate(&format!("{prefix}encoder.layer.3.output.LayerNorm.gamma"));
            assert_eq!(fate, whole("text_encoder.encoder.layer.3.output.LayerNorm.weight".into()));
            let fate = format.fate(&format!("{prefix}embeddings.LayerNorm.beta"));
            assert_eq!(fate, whole("text_encoder.embeddings.LayerNorm.bias".into()));
            assert_eq!(
                format.fate("cls.predictions.transform.LayerNorm.gamma"),
                whole("cls.predictions.transform.LayerNorm.weight".into())
            );
            assert_eq!(format.fate("cls.predictions.decoder.weight"), Fate::Ignore);
            assert_eq!(format.fate("cls.seq_relationship.weight"), Fate::Extra);
        }
        assert!(TextFormat::find(["vision_model.pre_layrnorm.weight"].into_iter()).is_none());
    }

    #[test]
    fn the_towers_of_clip_vit_and_timm_are_told_apart() {
        let of = |keys: &[&'static str]| VisionFormat::find(&keys.iter().copied()).map(|format| (format.kind, format.prefix));
        assert_eq!(of(&["vision_model.embeddings.class_embedding", "logit_scale"]), Some((VisionKind::Clip, "vision_model.")));
        assert_eq!(of(&["vit.embeddings.cls_token"]), Some((VisionKind::Vit, "vit.")));
        assert_eq!(of(&["embeddings.cls_token"]), Some((VisionKind::Vit, "")));
        assert_eq!(of(&["cls_token", "pos_embed"]), Some((VisionKind::Timm, "")));
        assert_eq!(of(&["bert.embeddings.word_embeddings.weight"]), None);
    }

    #[test]
    fn a_fused_matrix_fills_three_parameters() {
        let format = VisionFormat::find(&["cls_token"].into_iter()).unwrap();
        let Fate::Take(targets) = format.fate("blocks.2.attn.qkv.bias") else { panic!("it has a place") };
        assert_eq!(targets[1], ("visual_encoder.encoder.layers.2.self_attn.k_proj.bias".into(), Slot::Third(1)));
        assert_eq!(format.fate("head.weight"), Fate::Extra);
    }
}
