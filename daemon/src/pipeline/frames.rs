//! Videos: every key frame fetched, prepared and embedded, the record with them or not at all.

use astromech_schemas::Frame;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};

use super::payload::{FIELD_IMAGE_URL, filtered};
use super::task::{NotEmbedded, TaskContext};
use crate::index::{ChangeBody, FramePoint};
use crate::prepare::{FIELD_IMAGE_SHA256, Fault};

/// Frames of one video on their way at once: what is decoded of a record stays small, and other records fill the towers' batches.
const FRAMES_AT_ONCE: usize = 4;

impl TaskContext {
    /// Embeds a video. A frame that can never be had or read is the record's fault and is named; one that may come later is waited for.
    pub(super) async fn video(
        &self,
        text: Option<String>,
        frames: Vec<Frame>,
        payload: Map<String, Value>,
    ) -> Result<ChangeBody, NotEmbedded> {
        let common = filtered(&payload);
        let frames: Vec<_> = frames.into_iter().enumerate().map(|(number, frame)| self.frame(number, frame, &common)).collect();
        let frames = futures::stream::iter(frames).buffered(FRAMES_AT_ONCE).try_collect::<Vec<_>>();
        let (text, frames) = tokio::try_join!(self.text(text), frames)?;
        Ok(ChangeBody::Video { text, frames, payload })
    }

    async fn frame(&self, number: usize, frame: Frame, common: &Map<String, Value>) -> Result<FramePoint, NotEmbedded> {
        let Frame { time_ms, image } = frame;
        let mut payload = common.clone();
        if let Some(url) = &image.url {
            payload.insert(FIELD_IMAGE_URL.to_owned(), url.as_str().into());
        }
        let embedded = async {
            let (prepared, content) = self.picture(image).await?;
            Ok::<_, NotEmbedded>((self.image_vector(prepared, content).await?, content))
        };
        let (image, content) = embedded.await.map_err(|error| of_frame(number, error))?;
        payload.insert(FIELD_IMAGE_SHA256.to_owned(), content.to_hex().into());
        Ok(FramePoint { image, time_ms, payload })
    }
}

fn of_frame(number: usize, error: NotEmbedded) -> NotEmbedded {
    match error {
        NotEmbedded::Fault(Fault { reason, detail }) => Fault::new(reason, format!("frames[{number}].{detail}")).into(),
        left @ NotEmbedded::Left(_) => left,
    }
}
