//! What a scene asks for, and in what its near twin differs.

/// A kind of scene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SceneKind {
    /// One object, and where it is. Control: the place of a single object.
    Place,
    /// Two objects, only one of which the caption names, and where it is. Control: whose place it is, without a second name.
    Unnamed,
    /// One left of, right of, above or below the other.
    Relation,
    /// Three in a row; the one between changes places with one of its neighbours.
    Row,
    /// Two objects in two colours, anywhere; the colours are exchanged.
    Colour,
    /// Two coloured objects in a relation; the colours are exchanged.
    ColourSwapped,
    /// Two coloured objects in a relation; the places are exchanged.
    PlaceSwapped,
    /// A large and a small object; the sizes are exchanged.
    Size,
    /// Two of one and one of the other; the numbers are exchanged.
    Count,
}

/// Kinds.
pub const KINDS: usize = 9;

impl SceneKind {
    /// Every kind.
    pub const ALL: [Self; KINDS] = [
        Self::Place,
        Self::Unnamed,
        Self::Relation,
        Self::Row,
        Self::Colour,
        Self::ColourSwapped,
        Self::PlaceSwapped,
        Self::Size,
        Self::Count,
    ];

    /// Name in settings, tasks and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Unnamed => "unnamed",
            Self::Relation => "relation",
            Self::Row => "row",
            Self::Colour => "colour",
            Self::ColourSwapped => "colour_swapped",
            Self::PlaceSwapped => "place_swapped",
            Self::Size => "size",
            Self::Count => "count",
        }
    }

    /// Objects are tinted.
    pub(super) const fn is_coloured(self) -> bool {
        matches!(self, Self::Colour | Self::ColourSwapped | Self::PlaceSwapped)
    }

    /// The caption names everything that is there, so that it can be looked for among other scenes.
    pub(super) const fn names_all(self) -> bool {
        !matches!(self, Self::Place | Self::Unnamed)
    }
}
