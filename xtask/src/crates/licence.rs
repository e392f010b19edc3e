//! Licences as SPDX expressions.

/// Returns true if an SPDX expression of AND, OR and parentheses is satisfied by these licences. (Old
/// crates use `/` for OR.)
pub(super) fn allows(allowed: &[String], expression: &str) -> bool {
    let text = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut parser = Parser {
        allowed,
        words: &words,
    };
    parser.any() && parser.words.is_empty()
}

struct Parser<'a> {
    allowed: &'a [String],
    words: &'a [&'a str],
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn any(&mut self) -> bool {
        let mut holds = self.all();
        while self.take("OR") {
            holds |= self.all();
        }
        holds
    }

    fn all(&mut self) -> bool {
        let mut holds = self.one();
        while self.take("AND") {
            holds &= self.one();
        }
        holds
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let holds = self.any();
            return self.take(")") && holds;
        }
        let Some((name, rest)) = self.words.split_first() else {
            return false;
        };
        self.words = rest;
        let mut licence = (*name).to_owned();
        if self.take("WITH")
            && let Some((exception, rest)) = self.words.split_first()
        {
            licence = format!("{licence} WITH {exception}");
            self.words = rest;
        }
        self.allowed.contains(&licence)
    }
}

#[test]
fn reads_licence_expressions() {
    let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(MIT OR X) AND Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(allows(&allowed, good), "{good}");
    }
    for bad in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT AND",
        "(MIT",
        "Apache-2.0 WITH other-exception",
    ] {
        assert!(!allows(&allowed, bad), "{bad}");
    }
}
