//! Videos through Kafka: every key frame a point, all of one version, whatever is sent, replayed or killed.

use std::collections::BTreeMap;

use astromech_e2e::checks::header;
use astromech_e2e::corpus::Entry;
use astromech_e2e::{Daemon, Record, Sent, world};
use astromech_schemas::dead_letter::{HEADER_DETAIL, HEADER_KIND, HEADER_REASON, HEADER_VERSION};
use astromech_schemas::item::Common;
use astromech_schemas::results::ResultMessage;
use astromech_schemas::{Frame, ImageSource, Kind, Video, frame_point_id, point_id};

use crate::scenario::Scenario;

const VIDEOS: usize = 12;

/// A video of `count` frames; pictures travel inline, as files and over HTTP in turn.
fn video(scenario: &Scenario<'_>, id: &str, version: u64, count: usize) -> Record {
    let frame = |(number, entry): (usize, &Entry)| Frame {
        time_ms: number as u64 * 1500,
        image: match number % 3 {
            0 => ImageSource::from_bytes(entry.bytes()),
            1 => ImageSource::from_url(format!("file://{}", entry.picture.display())),
            _ => ImageSource::from_url(scenario.host.serve(&format!("/{}.jpg", entry.id), entry.bytes())),
        },
    };
    let entries = scenario.corpus.entries.iter().cycle().skip(version as usize);
    let common = Common { id: Some(id.to_owned()), version: Some(version), ..Common::default() };
    let frames = entries.take(count).enumerate().map(frame).collect();
    let video = Video { kind: Some(Kind::Video), frames, title: Some(format!("{id} 第{version}版")), body: None, common };
    let value = serde_json::to_vec(&video).expect("JSON is written");
    Record { key: Some(id.as_bytes().to_vec()), value: Some(value), ..Record::default() }
}

fn delete(id: &str, version: u64) -> Record {
    let headers = [(HEADER_VERSION, version.to_string()), (HEADER_KIND, Kind::Video.to_string())];
    Record {
        key: Some(id.as_bytes().to_vec()),
        value: None,
        headers: headers.map(|(key, value)| (key.to_owned(), value.into_bytes())).to_vec(),
        partition: None,
    }
}

/// The videos' collection holds exactly these: version and number of frames, none where it is deleted.
fn assert_videos(scenario: &Scenario<'_>, expected: &BTreeMap<String, (u64, Option<u32>)>) {
    let points = scenario.world.points.all(Kind::Video);
    let mut wanted = 0;
    for (id, (version, frames)) in expected {
        let own = point_id(Kind::Video, id);
        let point = points.get(&own).unwrap_or_else(|| panic!("{id} has no point"));
        assert_eq!((point.version(), point.is_tombstone()), (*version, frames.is_none()), "{id}: {:?}", point.payload);
        for number in 0..frames.unwrap_or(0) {
            let frame = points.get(&frame_point_id(own, number)).unwrap_or_else(|| panic!("{id} has no frame {number}"));
            assert_eq!(frame.version(), *version, "frame {number} of {id}: {:?}", frame.payload);
            assert!(frame.vectors.contains_key("image"), "frame {number} of {id}: {:?}", frame.payload);
        }
        wanted += 1 + frames.unwrap_or(0) as usize;
    }
    assert_eq!(points.len(), wanted, "no other point: {:?}", points.values().map(|point| &point.payload).collect::<Vec<_>>());
}

#[test]
fn promise_1_and_2_videos_keep_the_frames_of_their_highest_version_over_fewer_frames_deletes_replays_and_a_kill() {
    let world = world();
    let mut scenario = Scenario::slow(&world, "videos");
    scenario.config.extra.push_str("[kafka.results]\nembeddings = true\n[record]\nframes_max = 8\n");
    let mut expected = BTreeMap::new();
    let mut records = Vec::new();
    for place in 0..VIDEOS {
        let id = format!("video-{place}");
        records.push(video(&scenario, &id, 3, 5));
        match place % 3 {
            // Fewer frames, then an older version that has more.
            0 => {
                records.extend([video(&scenario, &id, 7, 2), video(&scenario, &id, 5, 6)]);
                expected.insert(id, (7, Some(2)));
            }
            // Deleted, then an older version.
            1 => {
                records.extend([delete(&id, 7), video(&scenario, &id, 5, 6)]);
                expected.insert(id, (7, None));
            }
            // More frames, and one record that is none at all.
            _ => {
                records.extend([video(&scenario, &id, 7, 8), video(&scenario, &id, 9, 9)]);
                expected.insert(id, (7, Some(8)));
            }
        }
    }
    let mut daemon = Daemon::start(&scenario.config);
    let sent = world.client.produce(&scenario.topics.changes, records.clone());
    scenario.wait_results(VIDEOS as u64, || daemon.expect_alive());
    daemon.kill();
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    assert_videos(&scenario, &expected);
    let letters: Vec<&Sent> = answers.dead_letters.values().flatten().collect();
    assert!(!letters.is_empty());
    for letter in letters {
        assert_eq!(header(letter, HEADER_REASON), "invalid_record");
        assert!(header(letter, HEADER_DETAIL).contains("frames: 9 key frames, over the limit frames_max = 8"));
    }
    assert_results(answers.results.values().flatten());

    // The same once more, as after a reset of the group's offsets.
    records.reverse();
    world.client.produce(&scenario.topics.changes, records);
    scenario.wait_done(&mut daemon);
    assert_videos(&scenario, &expected);
    let (status, found) = daemon.post("/v1/search", &serde_json::json!({"text": "红色的汽车", "kinds": ["video"], "limit": 100}));
    assert_eq!(status, 200, "{found}");
    let hits = found["hits"]["video"].as_array().expect("hits");
    assert_eq!(hits.len(), expected.values().filter(|(_, frames)| frames.is_some()).count(), "each video once: {found}");
    assert!(hits.iter().all(|hit| hit["version"] == 7 && hit["frame"]["time_ms"].is_u64()), "{found}");
    assert!(daemon.terminate().success());
}

/// Results name every frame with its point, its time and its vector.
fn assert_results<'a>(results: impl Iterator<Item = &'a ResultMessage>) {
    for result in results {
        let own = point_id(Kind::Video, &result.id);
        assert_eq!(result.point_id, own.to_string());
        assert_eq!(result.frames.is_empty(), result.vectors.is_empty(), "{result:?}");
        for (number, frame) in (0..).zip(&result.frames) {
            assert_eq!((frame.time_ms, &frame.point_id), (u64::from(number) * 1500, &frame_point_id(own, number).to_string()));
            assert!(!frame.embedding.is_empty());
        }
    }
}

#[test]
fn one_broken_frame_is_one_dead_letter_that_names_it_and_a_host_that_is_down_is_waited_for() {
    let world = world();
    let mut scenario = Scenario::new(&world, "frames");
    let mut broken: serde_json::Value =
        serde_json::from_slice(&video(&scenario, "broken", 1, 4).value.expect("a value")).expect("JSON");
    broken["frames"][3]["image"] = serde_json::to_value(ImageSource::from_bytes(b"no picture".to_vec())).expect("JSON");
    let value = Some(serde_json::to_vec(&broken).expect("JSON"));
    let broken = Record { key: Some(b"broken".to_vec()), value, ..Record::default() };
    let waits = video(&scenario, "waits", 1, 3);
    scenario.host.down();
    let mut daemon = Daemon::start(&scenario.config);
    // Without a frame over HTTP: it does not wait for the host.
    let good = video(&scenario, "good", 1, 2);
    let missing: Vec<Record> = vec![waits, good];
    world.client.produce(&scenario.topics.changes, missing);
    scenario.wait_results(1, || daemon.expect_alive());
    assert_eq!(scenario.results(), 1, "the other waits");
    scenario.host.up();
    world.client.produce(&scenario.topics.changes, vec![broken]);
    scenario.wait_done(&mut daemon);
    assert_videos(&scenario, &BTreeMap::from([("good".to_owned(), (1, Some(2))), ("waits".to_owned(), (1, Some(3)))]));
    let answers = scenario.answers();
    let letters: Vec<&Sent> = answers.dead_letters.values().flatten().collect();
    assert_eq!(letters.len(), 1);
    assert_eq!(header(letters[0], HEADER_REASON), "invalid_image");
    assert!(header(letters[0], HEADER_DETAIL).starts_with("frames[3].image: "), "{}", header(letters[0], HEADER_DETAIL));
    assert!(daemon.terminate().success());
}
