//! The JSON Schemas that are checked in.

use schemars::{JsonSchema, generate::SchemaSettings};

use crate::{clicks, http, item, manifest, release, rescore, results, video};

/// Every document of the contract as (file name, JSON Schema 2020-12), in a stable order.
pub fn schema_documents() -> Vec<(&'static str, serde_json::Value)> {
    fn of<T: JsonSchema>() -> serde_json::Value {
        let generator = SchemaSettings::draft2020_12().into_generator();
        generator.into_root_schema_for::<T>().to_value()
    }
    vec![
        ("article.schema.json", of::<item::Article>()),
        ("image.schema.json", of::<item::Image>()),
        ("ad.schema.json", of::<item::Ad>()),
        ("video.schema.json", of::<video::Video>()),
        ("click.schema.json", of::<clicks::ClickCount>()),
        ("result.schema.json", of::<results::ResultMessage>()),
        ("manifest.schema.json", of::<manifest::Manifest>()),
        ("release.schema.json", of::<release::Release>()),
        ("model-announcement.schema.json", of::<release::ModelAnnouncement>()),
        ("embed-request.schema.json", of::<http::EmbedRequest>()),
        ("embed-response.schema.json", of::<http::EmbedResponse>()),
        ("search-request.schema.json", of::<http::SearchRequest>()),
        ("search-response.schema.json", of::<http::SearchResponse>()),
        ("rescore-request.schema.json", of::<rescore::RescoreRequest>()),
        ("rescore-response.schema.json", of::<rescore::RescoreResponse>()),
        ("problem.schema.json", of::<http::Problem>()),
    ]
}
