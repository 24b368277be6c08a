extension Markup {
  /// The colors and sizes of a page: light or dark as the reader's system is, one column on a phone.
  static let pageStyle = Markup.style(
    """
    :root{color-scheme:light dark;--ground:#fff;--panel:#f5f6f8;--ink:#1b1f27;--dim:#5a6372;\
    --rule:#d9dde4;--first:#1f6fd0;--second:#8a5a00;--third:#7a3fb0;--warn:#c2410c;--good:#157347}
    @media(prefers-color-scheme:dark){:root{--ground:#14171c;--panel:#1d2127;--ink:#e8eaee;\
    --dim:#a2abb9;--rule:#373e49;--first:#6aa9f7;--second:#e0a83a;--third:#c193f0;--warn:#f98a55;\
    --good:#5fc98d}}
    *{box-sizing:border-box}
    body{margin:0;background:var(--ground);color:var(--ink);\
    font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif}
    main{max-width:1120px;margin:0 auto;padding:16px}
    h1{font-size:1.35rem;line-height:1.25;margin:.3em 0;overflow-wrap:anywhere}
    h2{font-size:1.1rem;margin:2em 0 .3em}
    p{margin:.4em 0;max-width:46em;overflow-wrap:anywhere}
    .dim,figcaption,.legend{color:var(--dim);font-size:.875rem}
    .verdict{border-left:5px solid var(--first);background:var(--panel);padding:10px 16px;\
    border-radius:0 6px 6px 0}
    .verdict.good{border-color:var(--good)}.verdict.warn{border-color:var(--warn)}
    .headline{font-size:1.15rem;font-weight:600}
    .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:14px 0}
    .tile{background:var(--panel);border-radius:6px;padding:8px 12px}
    .tile b{display:block;font-size:1.3rem;line-height:1.3;overflow-wrap:anywhere}
    .tile span{color:var(--dim);font-size:.85rem}
    .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));\
    gap:12px 28px}
    .charts>*{min-width:0;max-width:540px}
    .small{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:14px 18px}
    figure{margin:0;min-width:0}
    figcaption{overflow-wrap:anywhere;line-height:1.35}
    figcaption b{color:var(--ink);font-weight:600}
    .small figcaption{font-size:.8rem;margin-top:3px}
    svg{display:block;width:100%;height:auto}
    svg text{font:10.5px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;\
    fill:var(--dim)}
    svg .note{fill:var(--ink);stroke:var(--ground);stroke-width:3px;paint-order:stroke}\
    svg .title{fill:var(--ink)}svg .strong{fill:var(--ink);font-weight:700}
    .grid{stroke:var(--rule);stroke-width:.6}.axis{stroke:var(--dim);stroke-width:1}
    .level{stroke:var(--warn);stroke-width:1;stroke-dasharray:4 3}
    .bar,.area{fill:var(--first)}.bar.marked,.area.beyond{fill:var(--warn)}
    .area.behind{fill:var(--second);opacity:.45}
    .line{fill:none;stroke-width:1.5;stroke-linejoin:round}.line.dashed{stroke-dasharray:4 3}
    .line.first{stroke:var(--first)}.line.second{stroke:var(--second)}.line.third{stroke:var(--third)}
    .dot.first{fill:var(--first)}.dot.second{fill:var(--second)}.dot.third{fill:var(--third)}
    .dot.chosen{fill:var(--warn)}.dot.hollow{fill:var(--ground);stroke:var(--second);stroke-width:1.3}
    .mark{stroke:var(--warn);stroke-width:1}
    .key{margin-right:1.2em;white-space:nowrap}
    .key::before{content:"";display:inline-block;width:1.2em;height:.25em;margin-right:.4em;\
    vertical-align:middle;background:var(--first)}
    .key.second::before{background:var(--second)}.key.third::before{background:var(--third)}
    .key.marks::before{background:var(--warn)}
    table{border-collapse:collapse;width:100%;max-width:760px;font-size:.875rem}
    th,td{text-align:left;vertical-align:top;padding:3px 10px 3px 0;border-bottom:1px solid var(--rule);\
    overflow-wrap:anywhere}
    th{color:var(--dim);font-weight:500}
    td.number,th.number{text-align:right;white-space:nowrap;overflow-wrap:normal;\
    font-variant-numeric:tabular-nums}
    td.word{white-space:nowrap;overflow-wrap:normal}
    td.rank{width:26%;min-width:64px;vertical-align:middle}
    td.rank svg{height:.8em}
    details{margin:.6em 0}summary{cursor:pointer;color:var(--dim)}
    footer{margin:2.5em 0 1em;border-top:1px solid var(--rule);padding-top:.6em}
    """)
}
