//! What the feature cache keeps of an item, in memory and as bytes on disk.

use std::sync::Arc;

use astromech_schemas::rescore::Side;
use astromech_towers::{EmbeddedStates, ImageStates, TextStates};
use half::f16;
use half::slice::HalfFloatSliceExt as _;

use crate::config::StatesForm;

/// What an entry takes beside its numbers.
const ENTRY_BYTES: usize = 256;
/// Bytes before an entry's numbers on disk: form, tokens, width and length of the vector, as 32-bit words.
const HEAD_BYTES: usize = 16;
/// Form words of [`Kept`].
const HALF: u32 = 1;
const FULL: u32 = 2;
/// Added to the form of an entry with a vector for each token: they stand behind its own vector.
const WITH_TOKENS: u32 = 2;

/// Hidden states of either tower.
pub trait States: Sized + Send + Sync + 'static {
    /// Which tower's.
    const SIDE: Side;
    /// Tokens and width.
    fn shape(&self) -> (usize, usize);
    /// `tokens * width` numbers.
    fn data(&self) -> &[f32];
    /// From their parts.
    fn build(tokens: usize, width: usize, data: Box<[f32]>) -> Self;
}

/// The two are types of their own so that no text is taken for a picture; their form is one.
macro_rules! states {
    ($($states:ident is $side:ident),*) => {$(
        impl States for $states {
            const SIDE: Side = Side::$side;

            fn shape(&self) -> (usize, usize) {
                (self.tokens, self.width)
            }

            fn data(&self) -> &[f32] {
                &self.data
            }

            fn build(tokens: usize, width: usize, data: Box<[f32]>) -> Self {
                Self { tokens, width, data }
            }
        }
    )*};
}

states!(ImageStates is Image, TextStates is Text);

/// States as they are kept.
#[derive(Debug, Clone, PartialEq)]
enum Kept {
    Half(Arc<[f16]>),
    Full(Arc<[f32]>),
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    embedding: Arc<[f32]>,
    /// A vector for each token, where the bundle is one of late interaction.
    token_vectors: Option<Arc<[f32]>>,
    tokens: usize,
    width: usize,
    states: Kept,
}

impl Entry {
    pub(super) fn new<S: States>(encoded: &EmbeddedStates<S>, form: StatesForm) -> Self {
        let (tokens, width) = encoded.states.shape();
        let states = match form {
            StatesForm::F16 => halves(encoded.states.data()),
            StatesForm::F32 => None,
        };
        let states = states.map_or_else(|| Kept::Full(encoded.states.data().into()), Kept::Half);
        let token_vectors = encoded.tokens.as_deref().map(Arc::from);
        Self { embedding: encoded.embedding.as_slice().into(), token_vectors, tokens, width, states }
    }

    pub(super) fn load<S: States>(&self) -> EmbeddedStates<S> {
        let data = match &self.states {
            Kept::Half(halves) => halves.to_f32_vec().into_boxed_slice(),
            Kept::Full(numbers) => numbers.to_vec().into_boxed_slice(),
        };
        EmbeddedStates {
            embedding: self.embedding.to_vec(),
            tokens: self.token_vectors.as_deref().map(Box::from),
            states: Arc::new(S::build(self.tokens, self.width, data)),
        }
    }

    /// Bytes that it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let states = match &self.states {
            Kept::Half(halves) => size_of_val(&**halves),
            Kept::Full(numbers) => size_of_val(&**numbers),
        };
        ENTRY_BYTES + states + size_of_val(&*self.embedding) + self.token_vectors.as_deref().map_or(0, size_of_val)
    }

    /// As bytes: its head, the vector, the tokens' vectors, the states; little-endian.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let form = match self.states {
            Kept::Half(_) => HALF,
            Kept::Full(_) => FULL,
        };
        let form = if self.token_vectors.is_some() { form + WITH_TOKENS } else { form };
        let head = [form, self.tokens as u32, self.width as u32, self.embedding.len() as u32];
        let mut bytes = Vec::with_capacity(self.bytes());
        bytes.extend(head.iter().flat_map(|word| word.to_le_bytes()));
        let vectors = self.embedding.iter().chain(self.token_vectors.iter().flat_map(|vectors| vectors.iter()));
        bytes.extend(vectors.flat_map(|number| number.to_le_bytes()));
        match &self.states {
            Kept::Half(halves) => bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes())),
            Kept::Full(numbers) => bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes())),
        }
        bytes
    }

    /// Reads [`Entry::to_bytes`]; `None` where lengths and head disagree.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, numbers) = bytes.split_at_checked(HEAD_BYTES)?;
        let word = |at: usize| u32::from_le_bytes([head[4 * at], head[4 * at + 1], head[4 * at + 2], head[4 * at + 3]]);
        let (form, tokens, width, dim) = (word(0), word(1) as usize, word(2) as usize, word(3) as usize);
        let (embedding, states) = numbers.split_at_checked(dim.checked_mul(4)?)?;
        let has_tokens = form > WITH_TOKENS;
        let (token_vectors, states) =
            states.split_at_checked(if has_tokens { tokens.checked_mul(dim)?.checked_mul(4)? } else { 0 })?;
        let count = tokens.checked_mul(width)?;
        let states = match if has_tokens { form - WITH_TOKENS } else { form } {
            HALF if states.len() == count.checked_mul(2)? => {
                Kept::Half(states.chunks_exact(2).map(|half| f16::from_le_bytes([half[0], half[1]])).collect())
            }
            FULL if states.len() == count.checked_mul(4)? => Kept::Full(singles(states)),
            _ => return None,
        };
        let token_vectors = has_tokens.then(|| singles(token_vectors));
        Some(Self { embedding: singles(embedding), token_vectors, tokens, width, states })
    }
}

fn singles(bytes: &[u8]) -> Arc<[f32]> {
    bytes.chunks_exact(4).map(|single| f32::from_le_bytes([single[0], single[1], single[2], single[3]])).collect()
}

/// `None` where a number is beyond what 16 bits hold: such states are kept in full.
fn halves(numbers: &[f32]) -> Option<Arc<[f16]>> {
    let mut halves = vec![f16::ZERO; numbers.len()];
    halves.convert_from_f32_slice(numbers);
    halves.iter().all(|half| half.is_finite()).then(|| halves.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_back_from_its_bytes_and_not_from_fewer() {
        let forms = [(StatesForm::F16, [0.5_f32, -2.0], None), (StatesForm::F32, [0.1, 3e9], None)];
        let with_tokens = forms.clone().map(|(form, numbers, _)| (form, numbers, Some(Box::from([1.0, 0.0, 0.6, 0.8]))));
        for (form, numbers, tokens) in forms.into_iter().chain(with_tokens) {
            let states = ImageStates { tokens: 2, width: 1, data: numbers.into() };
            let encoded = EmbeddedStates { embedding: vec![1.0, 0.0], tokens, states: Arc::new(states) };
            let entry = Entry::new(&encoded, form);
            assert_eq!(entry.load::<ImageStates>().vectors(), encoded.vectors());
            let bytes = entry.to_bytes();
            assert_eq!(Entry::from_bytes(&bytes), Some(entry));
            for length in 0..bytes.len() {
                assert_eq!(Entry::from_bytes(&bytes[..length]), None, "{length} of {} bytes", bytes.len());
            }
        }
    }
}
