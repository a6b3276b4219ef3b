//! The table of keys.

/// Declares sections of a configuration, each key in one place: field, documentation, type, default, range and reader.
///
/// A key is `field: Type = default => kind;`, where `kind` is one of [`crate::kinds`] and gives the type and the range. The key in the
/// file has the field's name, or another: `field as "key_ms": …`. In place of a default there may be `(required EXAMPLE)`, `optional`
/// (absent where it is not written), or `derived`: then it is no key, what follows is the field's first value, and checks set it.
/// A line without a default is a section below this one: its type is another section's, or one of [`crate::Part`]'s.
///
/// Reading gives the struct and beside it the place of each key, by the same names: a check can't name a key that is not there.
#[macro_export]
macro_rules! settings {
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $key:literal) => { $key };

    (@need (required $example:tt)) => { $crate::Need::Required(stringify!($example)) };
    (@need optional) => { $crate::Need::Optional };
    (@need $default:tt) => { $crate::Need::Default(stringify!($default)) };

    (@place $type:ty) => { <$type as $crate::Part>::Place };
    (@place $type:ty, $need:tt) => { $crate::At };

    (@entry $to:ident, $name:expr, $doc:expr, $type:ty) => { $to.push(<$type as $crate::Part>::entry($name, $doc)) };
    (@entry $to:ident, $name:expr, $doc:expr, $type:ty, derived, $value:expr) => {};
    (@entry $to:ident, $name:expr, $doc:expr, $type:ty, $need:tt, $kind:expr) => {
        $to.push($crate::Entry {
            name: $name,
            doc: $doc,
            need: $crate::settings!(@need $need),
            shape: $crate::shape_of::<$type>(&$kind),
        })
    };

    (@read $table:ident, $name:expr, $type:ty) => { <$type as $crate::Part>::read_part($name, $table) };
    (@read $table:ident, $name:expr, $type:ty, derived, $value:expr) => { ($value, $crate::At::default()) };
    (@read $table:ident, $name:expr, $type:ty, $need:tt, $kind:expr) => {
        $table.value($name, $crate::settings!(@need $need), &$kind)
    };

    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])+ $field:ident $(as $key:literal)? : $type:ty $(= $need:tt => $kind:expr)? ; )*
        }
    )+) => {$(
        $(#[$meta])*
        // Fields are named as keys are in files, and the same text is the reference's comment, which is no Markdown.
        #[allow(clippy::struct_field_names, rustdoc::broken_intra_doc_links, rustdoc::bare_urls)]
        $vis struct $name { $( $(#[doc = $doc])+ pub $field: $type, )* }

        const _: () = {
            /// Where each key is written.
            #[derive(Debug, Clone)]
            pub struct Places {
                $( #[doc = concat!("Of `", stringify!($field), "`.")] pub $field: $crate::settings!(@place $type $(, $need)?), )*
            }

            impl $crate::Section for $name {
                type Places = Places;

                fn entries() -> Vec<$crate::Entry> {
                    let mut entries = Vec::new();
                    $(
                        $crate::settings!(
                            @entry entries, $crate::settings!(@name $field $($key)?), concat!($($doc),+), $type $(, $need, $kind)?
                        );
                    )*
                    entries
                }

                fn read(table: &mut $crate::Table<'_>) -> (Self, Places) {
                    $(
                        let $field =
                            $crate::settings!(@read table, $crate::settings!(@name $field $($key)?), $type $(, $need, $kind)?);
                    )*
                    (Self { $( $field: $field.0, )* }, Places { $( $field: $field.1, )* })
                }
            }
        };
    )+};
}
