//! Features of recent steps, as further columns of the contrastive loss (docs/R2D2.md §2.4).

use tch::{Device, Kind, Tensor};

/// Fixed-length queue of image and text embeddings with their concepts and ages; the newest come first.
#[derive(Debug)]
pub struct FeatureQueue {
    /// Unit rows [filled, E] f32.
    pub image: Tensor,
    /// Unit rows [filled, E] f32.
    pub text: Tensor,
    /// Concept of each row, `[filled]` i64.
    pub concepts: Tensor,
    /// `decay^age` of each row, `[filled]` f32.
    pub weights: Tensor,
    slots: i64,
    decay: f64,
}

impl FeatureQueue {
    /// An empty queue of at most `slots` rows of `embed` numbers. A row's weight is multiplied by `decay` every step (the authors' talk
    /// names 0.99; 1 weighs all alike).
    pub fn new(slots: i64, embed: i64, decay: f64, device: Device) -> Self {
        let rows = || Tensor::zeros([0, embed], (Kind::Float, device));
        let concepts = Tensor::zeros([0], (Kind::Int64, device));
        let weights = Tensor::zeros([0], (Kind::Float, device));
        Self { image: rows(), text: rows(), concepts, weights, slots, decay }
    }

    /// Goes on from what [`FeatureQueue::parts`] gave.
    pub fn restore(&mut self, parts: [Tensor; 4]) {
        let [image, text, concepts, weights] = parts.map(|part| part.to_device(self.image.device()));
        (self.image, self.text, self.concepts, self.weights) = (image, text, concepts, weights);
    }

    /// Images, texts, concepts and weights, to be stored.
    pub fn parts(&self) -> [Tensor; 4] {
        [&self.image, &self.text, &self.concepts, &self.weights].map(Tensor::shallow_clone)
    }

    /// Rows held.
    pub fn filled(&self) -> i64 {
        self.concepts.size()[0]
    }

    /// Puts a batch in front (embeddings `[B, E]`, concepts `[B]`); the oldest rows beyond the length fall out, the others age by a step.
    pub fn push(&mut self, image: &Tensor, text: &Tensor, concepts: &Tensor) {
        let join = |new: &Tensor, old: &Tensor, slots: i64| {
            let all = Tensor::cat(&[&new.detach(), old], 0);
            let rows = all.size()[0].min(slots);
            all.narrow(0, 0, rows).copy()
        };
        let fresh = Tensor::ones([concepts.size()[0]], (Kind::Float, concepts.device())) * self.decay;
        self.weights = join(&fresh, &(&self.weights * self.decay), self.slots);
        self.image = join(image, &self.image, self.slots);
        self.text = join(text, &self.text, self.slots);
        self.concepts = join(concepts, &self.concepts, self.slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_keeps_the_newest_rows_and_ages_them() {
        let mut queue = FeatureQueue::new(3, 1, 0.5, Device::Cpu);
        let row = |value: f32| Tensor::from_slice(&[value, value + 0.5]).view([2, 1]);
        queue.push(&row(1.0), &row(10.0), &Tensor::from_slice(&[1i64, 2]));
        assert_eq!(queue.filled(), 2);
        queue.push(&row(3.0), &row(30.0), &Tensor::from_slice(&[3i64, 4]));
        let images: Vec<f32> = queue.image.view([-1]).try_into().unwrap();
        assert_eq!(images, [3.0, 3.5, 1.0]);
        let texts: Vec<f32> = queue.text.view([-1]).try_into().unwrap();
        assert_eq!(texts, [30.0, 30.5, 10.0]);
        let concepts: Vec<i64> = queue.concepts.shallow_clone().try_into().unwrap();
        assert_eq!(concepts, [3, 4, 1]);
        let weights: Vec<f32> = queue.weights.shallow_clone().try_into().unwrap();
        assert_eq!(weights, [0.5, 0.5, 0.25]);
    }
}
