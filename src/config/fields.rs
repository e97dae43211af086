//! Fields of a JSON object that may state them in several places, and what becomes of those that nobody reads.

use super::known::Table;
use deepseek_ocr_core::{Error, Result};
use serde_json::Value;
use std::{cell::RefCell, collections::BTreeSet, fmt::Display};

static NOTHING: Value = Value::Null;

/// Fields of the objects in which a file may state them. Where several do they must agree; null is as good as absent.
pub(super) struct Fields<'a> {
    file: &'static str,
    /// The path in front of the field, and the object.
    scopes: Vec<(String, &'a Value)>,
    /// Fields that were asked for.
    seen: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(file: &'static str, scopes: impl IntoIterator<Item = (String, &'a Value)>) -> Result<Self> {
        let scopes: Vec<_> = scopes.into_iter().collect();
        match scopes.iter().find(|(_, scope)| !scope.is_object() && !scope.is_null()) {
            Some((name, scope)) => {
                let field = name.strip_suffix('.').unwrap_or("the file").to_owned();
                Err(Error::Config { file, field, found: scope.to_string(), expected: "an object".into() })
            }
            None => Ok(Self { file, scopes, seen: RefCell::default() }),
        }
    }

    /// Fields of the whole file.
    pub(super) fn of_file(file: &'static str, value: &'a Value) -> Result<Self> {
        Self::new(file, [(String::new(), value)])
    }

    /// Fields of the object that a field is.
    pub(super) fn inside(&self, field: &str) -> Result<Self> {
        let mut stated = self.all(field);
        if stated.is_empty() {
            let scope = self.scopes.first().map_or("", |(name, _)| name);
            stated.push((format!("{scope}{field}."), &NOTHING));
        }
        Self::new(self.file, stated)
    }

    /// The values of a field that are stated, each with its path with a dot behind.
    pub(super) fn all(&self, field: &str) -> Vec<(String, &'a Value)> {
        self.seen.borrow_mut().insert(field.to_owned());
        let stated = |(scope, object): &(String, &'a Value)| {
            Some((format!("{scope}{field}."), object.get(field).filter(|value| !value.is_null())?))
        };
        self.scopes.iter().filter_map(stated).collect()
    }

    /// The value, unless it is absent everywhere.
    pub(super) fn optional(&self, field: &str) -> Result<Option<&'a Value>> {
        let stated = self.all(field);
        let Some((path, first)) = stated.first() else { return Ok(None) };
        match stated.iter().find(|(_, other)| !same(first, other)) {
            Some((other, value)) => {
                let expected = format!("{first} as {} says", path.trim_end_matches('.'));
                Err(self.error_at(other.trim_end_matches('.'), value, expected))
            }
            None => Ok(Some(first)),
        }
    }

    fn required(&self, field: &str) -> Result<&'a Value> {
        self.optional(field)?.ok_or_else(|| self.error(field, "absent", "a value"))
    }

    /// A whole number of at least zero.
    pub(super) fn count(&self, field: &str) -> Result<usize> {
        let value = self.required(field)?;
        as_count(value).ok_or_else(|| self.error(field, value, "a whole number"))
    }

    /// A whole number of at least one.
    pub(super) fn size(&self, field: &str) -> Result<usize> {
        let size = self.count(field)?;
        if size == 0 { Err(self.error(field, size, "at least 1")) } else { Ok(size) }
    }

    pub(super) fn counts(&self, field: &str) -> Result<Vec<usize>> {
        let value = self.required(field)?;
        let counts = value.as_array().and_then(|items| items.iter().map(as_count).collect());
        counts.ok_or_else(|| self.error(field, value, "a list of whole numbers"))
    }

    pub(super) fn sizes(&self, field: &str) -> Result<Vec<usize>> {
        let sizes = self.counts(field)?;
        if sizes.contains(&0) {
            return Err(self.error(field, format!("{sizes:?}"), "sizes of at least 1"));
        }
        Ok(sizes)
    }

    /// `field / divisor`, which must be whole.
    pub(super) fn quotient(&self, field: &str, divisor: usize) -> Result<usize> {
        let value = self.size(field)?;
        if value.is_multiple_of(divisor) {
            Ok(value / divisor)
        } else {
            Err(self.error(field, value, format!("a multiple of {divisor}")))
        }
    }

    /// A size that the field `heads` beside it divides.
    pub(super) fn heads_divide(&self, field: &str) -> Result<usize> {
        let (size, heads) = (self.size(field)?, self.size("heads")?);
        if size.is_multiple_of(heads) {
            Ok(size)
        } else {
            Err(self.error("heads", heads, format!("a divisor of {field}, {size}")))
        }
    }

    /// A number above zero.
    pub(super) fn number(&self, field: &str) -> Result<Option<f64>> {
        let Some(value) = self.optional(field)? else { return Ok(None) };
        let number = value.as_f64().filter(|number| *number > 0.0);
        number.map(Some).ok_or_else(|| self.error(field, value, "a number above 0"))
    }

    /// Refuses each field of the table that states another value than those that it lists. An absent one stands for any of them.
    pub(super) fn switches(&self, table: &Table) -> Result<()> {
        table.iter().try_for_each(|(field, accepted)| self.one_of(field, accepted))
    }

    pub(super) fn one_of(&self, field: &str, accepted: &[Value]) -> Result<()> {
        let other = |(_, value): &(String, &Value)| !accepted.iter().any(|accepted| same(accepted, value));
        let Some((path, found)) = self.all(field).into_iter().find(other) else { return Ok(()) };
        let expected: Vec<String> = accepted.iter().map(Value::to_string).collect();
        let expected = if expected.is_empty() { "null".into() } else { expected.join(" or ") };
        Err(self.error_at(path.trim_end_matches('.'), found, expected))
    }

    pub(super) fn equals(&self, field: &str, expected: impl Into<Value>) -> Result<()> {
        self.one_of(field, &[expected.into()])
    }

    /// Paths of the fields that have a value, were not asked for and are not in the list.
    pub(super) fn unknown(&self, unused: &[&str]) -> Vec<String> {
        let seen = self.seen.borrow();
        let fields = |(scope, object): &(String, &'a Value)| {
            let fields = object.as_object().into_iter().flatten();
            let unknown = fields.filter(|(field, value)| {
                !value.is_null() && !seen.contains(*field) && !unused.contains(&field.as_str())
            });
            unknown.map(|(field, _)| format!("{scope}{field}")).collect::<Vec<_>>()
        };
        self.scopes.iter().flat_map(fields).collect()
    }

    /// Refuses a field that nothing here knows.
    pub(super) fn refuse_unknown(&self) -> Result<()> {
        let Some(path) = self.unknown(&[]).into_iter().next() else { return Ok(()) };
        let found = self.scopes.iter().find_map(|(scope, object)| object.get(path.strip_prefix(scope.as_str())?));
        Err(self.error_at(&path, found.unwrap_or(&NOTHING), "null"))
    }

    pub(super) fn error(&self, field: &str, found: impl Display, expected: impl Display) -> Error {
        let scope = self.scopes.iter().find(|(_, scope)| scope.get(field).is_some_and(|value| !value.is_null()));
        let scope = scope.or(self.scopes.first()).map_or("", |(name, _)| name);
        self.error_at(&format!("{scope}{field}"), found, expected)
    }

    pub(super) fn error_at(&self, path: &str, found: impl Display, expected: impl Display) -> Error {
        let (found, expected) = (found.to_string(), expected.to_string());
        Error::Config { file: self.file, field: path.to_owned(), found, expected }
    }
}

/// Whether two values are the same, numbers by what they are worth.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn as_count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nobody_asks_for_is_told_by_its_path() {
        let file = json!({ "a": 1, "b": { "c": 2, "d": null, "e": 3, "f": 4 }, "g": 5, "unused": 6 });
        let scopes = [("b.".to_owned(), &file["b"]), (String::new(), &file)];
        let fields = Fields::new("x.json", scopes).expect("objects");
        assert_eq!(fields.count("a").expect("a number"), 1);
        fields.switches(&vec![("c", vec![2.0.into()]), ("b", vec![file["b"].clone()])]).expect("the same number");
        assert_eq!(fields.unknown(&["unused", "f"]), ["b.e", "g"]);
        assert_eq!(fields.refuse_unknown().expect_err("b.e").to_string(), "x.json: b.e is 3, expected null");
    }

    #[test]
    fn places_that_disagree_are_named() {
        let file = json!({ "a": 1, "b": { "a": 2 } });
        let fields = Fields::new("x.json", [("b.".to_owned(), &file["b"]), (String::new(), &file)]).expect("objects");
        assert_eq!(fields.size("a").expect_err("two values").to_string(), "x.json: a is 1, expected 2 as b.a says");
    }
}
