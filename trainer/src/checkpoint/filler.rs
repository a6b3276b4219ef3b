//! Fills a part of a model from a file, tensor by tensor, and keeps account.

use std::collections::{HashMap, HashSet};

use tch::Tensor;

use super::error::CheckpointError;
use super::maps::{Fate, Slot, TEXT, VISION};
use super::report::{MisShaped, TowerReport};
use super::source::Source;
use crate::model::{grid_side, interpolate_positions};
use crate::nn::Params;

/// One file on its way into a model.
pub(super) struct Filler<'a> {
    params: &'a mut Params,
    /// Shapes of the parameters that may be filled.
    expected: HashMap<String, Vec<i64>>,
    filled: HashSet<String>,
    /// Parameter and what is added to its rows behind the first.
    patch_bias: Option<(String, Tensor)>,
    report: TowerReport,
}

impl<'a> Filler<'a> {
    /// Parameters whose names `accepts` may be filled.
    pub(super) fn new(params: &'a mut Params, format: &'static str, source: &Source, accepts: impl Fn(&str) -> bool) -> Self {
        let named = params.named().iter().filter(|named| accepts(&named.name));
        let expected = named.map(|named| (named.name.clone(), named.shape.clone())).collect();
        let report = TowerReport { path: source.path().to_path_buf(), format, ..TowerReport::default() };
        Self { params, expected, filled: HashSet::new(), patch_bias: None, report }
    }

    /// Takes every key of the file as `fate` says.
    pub(super) fn take_all(&mut self, source: &mut Source, fate: impl Fn(&str) -> Fate) -> Result<(), CheckpointError> {
        let mut order: Vec<usize> = (0..source.keys.len()).collect();
        order.sort_by(|&a, &b| source.keys[a].0.cmp(&source.keys[b].0));
        for index in order {
            let name = source.keys[index].0.clone();
            match fate(&name) {
                Fate::Ignore => self.report.ignored.push(name),
                Fate::Extra => self.report.extra.push(name),
                Fate::Take(targets) if !targets.iter().all(|(target, _)| self.expected.contains_key(target)) => {
                    self.report.extra.push(name);
                }
                Fate::Take(targets) => {
                    let tensor = source.read(index)?;
                    for (target, slot) in targets {
                        self.take(&name, &tensor, &target, slot);
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, name: &str, tensor: &Tensor, target: &str, slot: Slot) {
        if slot == Slot::PatchBias {
            self.patch_bias = Some((target.to_owned(), tensor.shallow_clone()));
            return;
        }
        if self.filled.contains(target) {
            self.report.extra.push(format!("{name} (a second value of {target})"));
            return;
        }
        let expected = self.expected[target].clone();
        let part = match slot {
            Slot::Third(index) if tensor.size().first().is_some_and(|rows| rows % 3 == 0) => {
                let rows = tensor.size()[0] / 3;
                tensor.narrow(0, index * rows, rows)
            }
            _ => without_leading_ones(tensor, expected.len()),
        };
        let fitted = if part.size() == expected { Some(part.shallow_clone()) } else { self.fit(target, &part, &expected) };
        let Some(value) = fitted.filter(|value| value.size() == expected) else {
            self.report.mis_shaped.push(MisShaped { name: target.to_owned(), expected, found: part.size() });
            return;
        };
        self.params.copy_named(target, &value);
        self.filled.insert(target.to_owned());
    }

    /// The two tables whose length may differ.
    fn fit(&mut self, target: &str, part: &Tensor, expected: &[i64]) -> Option<Tensor> {
        let (rows, width) = (*part.size().first()?, *part.size().get(1)?);
        if *expected.get(1)? != width {
            return None;
        }
        if target == format!("{VISION}embeddings.position_embedding.weight") {
            let (from, to) = (grid_side(rows)?, grid_side(expected[0])?);
            let how = format!("{target} is interpolated from a grid of {from} x {from} to {to} x {to}");
            self.report.adapted.push(how);
            return interpolate_positions(part, to);
        }
        if target == format!("{TEXT}embeddings.position_embeddings.weight") && rows > expected[0] {
            self.report.adapted.push(format!("{target} is cut to the first {} of {rows} rows", expected[0]));
            return Some(part.narrow(0, 0, expected[0]));
        }
        None
    }

    /// Closes the account. Parameters that `may_lack` names may be absent.
    pub(super) fn finish(mut self, may_lack: impl Fn(&str) -> bool) -> TowerReport {
        if let Some((target, bias)) = self.patch_bias.take() {
            self.add_to_patches(&target, &bias);
        }
        self.report.taken = self.filled.len();
        let mis_shaped: HashSet<&str> = self.report.mis_shaped.iter().map(|key| key.name.as_str()).collect();
        let mut rest: Vec<String> = self
            .expected
            .keys()
            .filter(|name| !self.filled.contains(*name) && !mis_shaped.contains(name.as_str()))
            .cloned()
            .collect();
        rest.sort();
        (self.report.absent, self.report.missing) = rest.into_iter().partition(|name| may_lack(name));
        self.report
    }

    /// W·x + b + p = W·x + (p + b): the patch embedding's bias goes into the positions of the patches.
    fn add_to_patches(&mut self, target: &str, bias: &Tensor) {
        let Some(table) =
            self.params.value(target).filter(|table| self.filled.contains(target) && bias.size() == table.size()[1..])
        else {
            let expected = self.expected[target][1..].to_vec();
            self.report.mis_shaped.push(MisShaped {
                name: format!("bias of the patch embedding, into {target}"),
                expected,
                found: bias.size(),
            });
            return;
        };
        let patches = table.narrow(0, 1, table.size()[0] - 1) + bias;
        self.params.copy_named(target, &Tensor::cat(&[table.narrow(0, 0, 1), patches], 0));
        self.report.adapted.push(format!("the patch embedding's bias is added to the patches' rows of {target}"));
    }
}

/// [1, 1, n] → [n] where one dimension is wanted, [1, m, n] → [m, n] where two are.
fn without_leading_ones(tensor: &Tensor, dimensions: usize) -> Tensor {
    let size = tensor.size();
    let surplus = size.len().saturating_sub(dimensions);
    if size[..surplus].iter().all(|&side| side == 1) { tensor.reshape(&size[surplus..]) } else { tensor.shallow_clone() }
}
