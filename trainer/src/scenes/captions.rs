//! What is said of a scene: many templates a kind, some of them held out, and several words for each direction and colour.

use rand::Rng;

use super::kind::SceneKind;

/// Templates at the end of each list that training never uses.
const HELD_OUT: usize = 2;

/// `{d}`: the direction of a; `{a}`, `{b}`, `{c}`: objects.
const PLACE: &[&str] = &[
    "{a}在{d}",
    "{a}在画面{d}",
    "画面{d}是{a}",
    "{d}有一个{a}",
    "图的{d}是{a}",
    "{a}位于图片{d}",
    "能看到{a}处在{d}",
    "靠{d}的地方有{a}",
];
/// `{e}`: the direction of b.
const RELATION: &[&str] = &[
    "{a}在{b}{d}",
    "{a}在{b}的{d}",
    "{b}在{a}{e}",
    "{b}在{a}的{e}",
    "{d}是{a}，{e}是{b}",
    "{e}是{b}，{d}是{a}",
    "{a}位于{b}{d}",
    "{b}的{d}是{a}",
    "{b}的{d}有一个{a}",
    "画面{d}是{a}，{e}是{b}",
    "一个{a}，它的{e}是{b}",
    "{a}处于{b}的{d}",
    "{e}放着{b}，{d}放着{a}",
];
/// `{l}`, `{r}`: where the row begins and ends.
const ROW: &[&str] = &[
    "{b}在{a}和{c}之间",
    "{b}在{a}和{c}中间",
    "{b}在{c}和{a}中间",
    "从{l}到{r}是{a}、{b}、{c}",
    "从{r}到{l}是{c}、{b}、{a}",
    "{a}和{c}中间是{b}",
    "{a}与{c}之间有一个{b}",
    "最{l}是{a}，中间是{b}，最{r}是{c}",
    "{a}、{b}、{c}从{l}到{r}排开",
    "夹在{a}和{c}当中的是{b}",
];
/// `{p}`, `{q}`: colours of a and b; `{a}` and `{b}` have no colour here.
const COLOUR: &[&str] = &[
    "{p}的{a}和{q}的{b}",
    "{q}的{b}和{p}的{a}",
    "{a}是{p}，{b}是{q}",
    "{p}的{a}，{q}的{b}",
    "一个{p}的{a}和一个{q}的{b}",
    "图中有{p}的{a}与{q}的{b}",
    "{p}的是{a}，{q}的是{b}",
    "有{p}的{a}，还有{q}的{b}",
    "{a}涂成{p}，{b}涂成{q}",
];
/// `{s}`, `{t}`: sizes of a and b.
const SIZE: &[&str] = &[
    "{s}{a}和{t}{b}",
    "{t}{b}和{s}{a}",
    "{a}比{b}{s}",
    "{b}比{a}{t}",
    "{a}{s}，{b}{t}",
    "{s}的是{a}，{t}的是{b}",
    "一个很{s}的{a}，一个很{t}的{b}",
    "{s}个的{a}，{t}个的{b}",
    "与{b}相比，{a}更{s}",
];
/// `{m}`, `{n}`: numbers of a and b.
const COUNT: &[&str] = &[
    "{m}个{a}和{n}个{b}",
    "{n}个{b}和{m}个{a}",
    "有{m}个{a}，{n}个{b}",
    "图中有{m}个{a}和{n}个{b}",
    "{a}{m}个，{b}{n}个",
    "{n}个{b}，{m}个{a}",
    "{m}个{a}加{n}个{b}",
    "数一数，{a}有{m}个，{b}有{n}个",
];

/// Words for left and right, above and below.
const DIRECTIONS: [[[&str; 3]; 2]; 2] =
    [[["左边", "左侧", "左面"], ["右边", "右侧", "右面"]], [["上面", "上方", "上边"], ["下面", "下方", "下边"]]];
const ENDS: [[&str; 2]; 2] = [["左", "右"], ["上", "下"]];
const SIZES: [&str; 2] = ["大", "小"];
const NUMBERS: [&str; 2] = ["两", "一"];

/// Which templates captions are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Templates {
    /// Those of training.
    Seen,
    /// The others.
    HeldOut,
}

/// Template and words of a caption, which twins share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phrase {
    template: &'static str,
    /// Which of the words for a direction.
    word: usize,
}

impl Phrase {
    /// Draws one.
    pub(super) fn draw(kind: SceneKind, templates: Templates, rng: &mut impl Rng) -> Self {
        let all = templates_of(kind, templates);
        Self { template: all[rng.random_range(0..all.len())], word: rng.random_range(0..DIRECTIONS[0][0].len()) }
    }
}

/// Templates of a kind.
pub(super) fn templates_of(kind: SceneKind, templates: Templates) -> &'static [&'static str] {
    let all = match kind {
        SceneKind::Place | SceneKind::Unnamed => PLACE,
        SceneKind::Relation | SceneKind::ColourSwapped | SceneKind::PlaceSwapped => RELATION,
        SceneKind::Row => ROW,
        SceneKind::Colour => COLOUR,
        SceneKind::Size => SIZE,
        SceneKind::Count => COUNT,
    };
    let (seen, held_out) = all.split_at(all.len() - HELD_OUT);
    if templates == Templates::Seen { seen } else { held_out }
}

/// What fills a template: a is the first, b the second object in the sense of the kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Roles<'a> {
    /// Names of a, b, c.
    pub(super) names: [&'a str; 3],
    /// Colours of a and b, such as 红色.
    pub(super) colours: [&'static str; 2],
    /// 0 horizontal, 1 vertical.
    pub(super) axis: usize,
    /// Where a is on the axis: 0 left or above, 1 right or below. Of a row: a to c run from left or above, or the other way.
    pub(super) side: usize,
    /// 0 where a is the large one, 1 where b is.
    pub(super) small: usize,
}

/// The caption.
pub(super) fn caption(kind: SceneKind, phrase: Phrase, roles: Roles<'_>) -> String {
    let Roles { names, colours, axis, side, small } = roles;
    let with_colour = matches!(kind, SceneKind::ColourSwapped | SceneKind::PlaceSwapped);
    let mut text = String::with_capacity(64);
    let mut rest = phrase.template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let (slot, tail) = after.split_once('}').unwrap_or((after, ""));
        rest = tail;
        let object = |text: &mut String, index: usize| {
            if let (true, Some(colour)) = (with_colour, colours.get(index)) {
                text.push_str(colour);
                text.push('的');
            }
            text.push_str(names[index]);
        };
        match slot {
            "a" => object(&mut text, 0),
            "b" => object(&mut text, 1),
            "c" => text.push_str(names[2]),
            "d" => text.push_str(DIRECTIONS[axis][side][phrase.word]),
            "e" => text.push_str(DIRECTIONS[axis][1 - side][phrase.word]),
            "l" => text.push_str(ENDS[axis][side]),
            "r" => text.push_str(ENDS[axis][1 - side]),
            "p" => text.push_str(colours[0]),
            "q" => text.push_str(colours[1]),
            "s" => text.push_str(SIZES[small]),
            "t" => text.push_str(SIZES[1 - small]),
            "m" => text.push_str(NUMBERS[0]),
            "n" => text.push_str(NUMBERS[1]),
            // No other slot is in the lists above; a test fills each.
            other => text.push_str(other),
        }
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_of_every_template_is_filled_and_no_held_out_one_is_seen() {
        for kind in SceneKind::ALL {
            let (seen, held_out) = (templates_of(kind, Templates::Seen), templates_of(kind, Templates::HeldOut));
            assert!(seen.len() >= 6 && held_out.len() == HELD_OUT && held_out.iter().all(|one| !seen.contains(one)));
            for template in seen.iter().chain(held_out) {
                let roles = Roles { names: ["狗", "猫", "马"], colours: ["红色", "蓝色"], axis: 0, side: 0, small: 0 };
                let text = caption(kind, Phrase { template, word: 0 }, roles);
                assert!(text.contains('狗') && text.chars().all(|one| !one.is_ascii()), "{text}");
                let other = Roles { side: 1, ..roles };
                let places = ["{d}", "{e}", "{l}"].iter().any(|slot| template.contains(slot));
                assert_eq!(text != caption(kind, Phrase { template, word: 0 }, other), places, "{text}");
            }
        }
        let roles = Roles { names: ["狗", "猫", ""], colours: ["红色", "蓝色"], axis: 1, side: 1, small: 0 };
        let phrase = Phrase { template: "{a}在{b}的{d}", word: 1 };
        assert_eq!(caption(SceneKind::PlaceSwapped, phrase, roles), "红色的狗在蓝色的猫的下方");
    }
}
