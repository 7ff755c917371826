//! `#[derive(SearchSpace)]` for kiln-tune; its documentation is that of `kiln_tune::SearchSpace`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Field, Fields, LitStr, Path, Result, Token, Type,
};

/// Derives `kiln_tune::SearchSpace` for a struct with named fields, or for an enum.
#[proc_macro_derive(SearchSpace, attributes(param))]
pub fn derive_search_space(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let container = Options::read(&input.attrs)?;
    let root = container
        .krate
        .as_ref()
        .map_or_else(|| quote!(::kiln_tune), |path| quote!(#path));
    container.only_crate()?;
    let name = &input.ident;
    let body = match &input.data {
        Data::Struct(data) => {
            let fields = fields_of(&data.fields, &root)?;
            quote!(::core::result::Result::Ok(Self #fields))
        }
        Data::Enum(data) => {
            let mut names = Vec::new();
            let mut arms = Vec::new();
            for variant in &data.variants {
                let ident = &variant.ident;
                let options = Options::read(&variant.attrs)?;
                let choice = options
                    .name
                    .map_or_else(|| ident.to_string(), |name| name.value());
                let fields = fields_of(&variant.fields, &root)?;
                arms.push(quote!(#choice => ::core::result::Result::Ok(Self::#ident #fields),));
                names.push(choice);
            }
            if names.is_empty() {
                return Err(Error::new(
                    name.span(),
                    "an enum without variants has nothing to suggest",
                ));
            }
            let own = snake_case(&name.to_string());
            quote! {
                let __choice = if __prefix.is_empty() { #own } else { __prefix };
                match #root::Suggest::suggest_categorical(__source, __choice, &[#(#names),*])? {
                    #(#arms)*
                    _ => ::core::unreachable!("the choices are the variants"),
                }
            }
        }
        Data::Union(_) => {
            return Err(Error::new(
                name.span(),
                "SearchSpace cannot be derived for a union",
            ));
        }
    };
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics #root::SearchSpace for #name #type_generics #where_clause {
            fn suggest_from<__S: #root::Suggest>(
                __source: &mut __S,
                __prefix: &str,
            ) -> #root::Result<Self> {
                let _ = &__prefix;
                #body
            }
        }
    })
}

/// The fields of a struct or a variant, each with the expression that suggests it.
fn fields_of(fields: &Fields, root: &TokenStream) -> Result<TokenStream> {
    match fields {
        Fields::Unit => Ok(quote!()),
        Fields::Named(named) => {
            let values = named.named.iter().map(|field| {
                let ident = &field.ident;
                let value = suggest(field, root)?;
                Ok(quote!(#ident: #value))
            });
            let values: Vec<_> = values.collect::<Result<_>>()?;
            Ok(quote!({ #(#values),* }))
        }
        Fields::Unnamed(unnamed) => match unnamed.unnamed.iter().collect::<Vec<_>>()[..] {
            // The parameters of a wrapped space are those of its owner.
            [field] if Options::read(&field.attrs)?.is_empty() => {
                let ty = &field.ty;
                Ok(quote!((<#ty as #root::SearchSpace>::suggest_from(__source, __prefix)?)))
            }
            _ => Err(Error::new(
                unnamed.span(),
                "name the fields, as the parameters are named after them; only a single SearchSpace may be unnamed",
            )),
        },
    }
}

fn suggest(field: &Field, root: &TokenStream) -> Result<TokenStream> {
    let options = Options::read(&field.attrs)?;
    let ty = &field.ty;
    let ident = field
        .ident
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let own = options
        .name
        .as_ref()
        .map_or_else(|| ident.trim_start_matches("r#").to_owned(), LitStr::value);
    let name = quote!(&#root::search_space::param_name(__prefix, #own));
    if let Some(choices) = &options.choices {
        if options.low.is_some() || options.high.is_some() || options.log || options.step.is_some()
        {
            return Err(Error::new(
                field.span(),
                "choices cannot be combined with low, high, log or step",
            ));
        }
        let choices = choices.iter();
        let list = if is(ty, &["String"]) {
            quote!([#(::std::string::ToString::to_string(&#choices)),*])
        } else {
            quote!([#(#choices),*])
        };
        return Ok(quote!(#root::Suggest::suggest_categorical::<#ty>(__source, #name, &#list)?));
    }
    let (low, high) = match (&options.low, &options.high) {
        (Some(low), Some(high)) => (low, high),
        (None, None) if options.log || options.step.is_some() => {
            return Err(Error::new(field.span(), "log and step need low and high"));
        }
        (None, None) => {
            return Ok(quote!(<#ty as #root::SearchSpace>::suggest_from(__source, #name)?));
        }
        _ => return Err(Error::new(field.span(), "low and high belong together")),
    };
    let log = options.log;
    if is(ty, &["f32", "f64"]) {
        let step = match &options.step {
            Some(step) => quote!(::core::option::Option::Some((#step) as f64)),
            None => quote!(::core::option::Option::None),
        };
        return Ok(quote! {
            #root::Suggest::suggest_internal(
                __source,
                #name,
                #root::FloatDistribution::build((#low) as f64, (#high) as f64, #log, #step)?.into(),
            )? as #ty
        });
    }
    if is(
        ty,
        &[
            "i8", "i16", "i32", "i64", "isize", "u8", "u16", "u32", "u64", "usize",
        ],
    ) {
        let step = options
            .step
            .as_ref()
            .map_or_else(|| quote!(1), |step| quote!((#step) as i64));
        return Ok(quote! {
            #root::search_space::int_field::<#ty, _>(
                __source,
                #name,
                #root::IntDistribution::build((#low) as i64, (#high) as i64, #log, #step)?,
            )?
        });
    }
    Err(Error::new(
        ty.span(),
        "low and high need a float or an integer field",
    ))
}

fn is(ty: &Type, names: &[&str]) -> bool {
    let Type::Path(path) = ty else { return false };
    path.path
        .segments
        .last()
        .is_some_and(|last| names.iter().any(|name| last.ident == name))
}

/// What stands in `#[param(...)]`.
#[derive(Default)]
struct Options {
    name: Option<LitStr>,
    low: Option<Expr>,
    high: Option<Expr>,
    log: bool,
    step: Option<Expr>,
    choices: Option<Punctuated<Expr, Token![,]>>,
    krate: Option<Path>,
}

impl Options {
    fn read(attrs: &[Attribute]) -> Result<Self> {
        let mut options = Self::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("param")) {
            attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    options.name = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("low") {
                    options.low = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("high") {
                    options.high = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("step") {
                    options.step = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("log") {
                    options.log = true;
                } else if meta.path.is_ident("choices") {
                    let list;
                    let value = meta.value()?;
                    syn::bracketed!(list in value);
                    options.choices = Some(Punctuated::parse_terminated(&list)?);
                } else if meta.path.is_ident("crate") {
                    options.krate = Some(meta.value()?.parse()?);
                } else {
                    return Err(
                        meta.error("param knows name, low, high, log, step, choices and crate")
                    );
                }
                Ok(())
            })?;
        }
        Ok(options)
    }

    fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.low.is_none()
            && self.high.is_none()
            && !self.log
            && self.step.is_none()
            && self.choices.is_none()
    }

    fn only_crate(&self) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            proc_macro2::Span::call_site(),
            "param on the type itself knows only crate",
        ))
    }
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}
