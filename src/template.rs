//! Templates and conditions: `{{ … }}` over named values, strict about undefined names.
