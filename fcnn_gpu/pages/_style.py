"""The style sheet of pages: light and dark as the reader's system, for phones, desks and paper."""

N_COLOURS = 10
"""Of series in a chart."""
_COLOURS = "".join(
    f".fcnn .line.c{i}{{stroke:var(--c{i})}}.fcnn .dot.c{i},.fcnn .bar.c{i}{{fill:var(--c{i})}}\n"
    for i in range(N_COLOURS)
)
STYLE = (
    """
.fcnn{--ink:#1b1f24;--soft:#5b6570;--line:#d9dee3;--ground:#fff;--panel:#f6f8fa;--accent:#0b5cad;
--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;--c4:#8a6d00;--c5:#56b4e9;--c6:#7a5195;--c7:#a05a2c;--c8:#4d4d4d;--c9:#b3007d;
color:var(--ink);background:var(--ground);font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;
padding:1rem clamp(.75rem,3vw,2rem) 4rem;box-sizing:border-box}
@media(prefers-color-scheme:dark){.fcnn{--ink:#e6e9ed;--soft:#9aa5b1;--line:#343b43;--ground:#14171a;--panel:#1d2126;
--accent:#6cb2ff;--c0:#5ab4e8;--c1:#ff9a52;--c2:#3fd0a4;--c3:#e8a3c8;--c4:#e6cf4a;--c5:#9cd3f5;--c6:#b79be0;--c7:#d79a6a;--c8:#bdbdbd;--c9:#f06ac6}
body:has(>.fcnn){background:#14171a}}
body:has(>.fcnn){margin:0}
.fcnn h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0 .25rem;overflow-wrap:anywhere}
.fcnn h2{font-size:1.3rem;margin:2.3rem 0 .5rem;padding-bottom:.25rem;border-bottom:2px solid var(--accent)}
.fcnn h3,.fcnn h4,.fcnn h5,.fcnn h6{font-size:1.05rem;margin:0 0 .5rem}
.fcnn p{margin:.4rem 0;color:var(--soft);max-width:46rem}
.fcnn article{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:1rem;margin:1rem 0}
.fcnn .formula{overflow-x:auto;overflow-y:hidden;padding:.2rem 0 .2rem .5rem;font-size:1.15rem}
.fcnn math{font-family:"STIX Two Math","Cambria Math","Latin Modern Math","Libertinus Math",math}
.fcnn .facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(11rem,100%),1fr));gap:.75rem;margin:1rem 0}
.fcnn .facts div{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}
.fcnn .facts b{display:block;font-size:1.25rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.fcnn .facts span{color:var(--soft);font-size:.85rem}
.fcnn .table{overflow-x:auto;max-width:100%;margin:.7rem 0}
.fcnn .beside{display:inline-block;vertical-align:top;margin-right:2.5rem}
.fcnn table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.93rem}
.fcnn caption{text-align:left;font-style:italic;padding:.3rem 0;white-space:nowrap}
.fcnn th,.fcnn td{padding:.2rem .7rem;text-align:right;white-space:nowrap;border:0;background:none;color:inherit}
.fcnn th{border-bottom:1px solid var(--soft);font-weight:600}
.fcnn .name{text-align:left;padding-left:.3rem}
.fcnn tbody tr:nth-child(even){background:color-mix(in srgb,var(--line) 30%,transparent)}
.fcnn tfoot tr:first-child td{border-top:1px solid var(--soft)}
.fcnn tfoot td{font-weight:600}
.fcnn .left{font-size:.9rem;padding-left:.2rem}
.fcnn .matrix td{text-align:center;padding:.2rem .5rem;min-width:1.6rem;
background:color-mix(in srgb,var(--c0) calc(var(--share)*85%),transparent)}
.fcnn .matrix tr{background:none!important}.fcnn .matrix th{border:0}
.fcnn .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr));gap:1rem}
.fcnn figure{margin:0}
.fcnn figcaption{font-size:.85rem;color:var(--soft)}
.fcnn .chart figcaption{display:flex;flex-wrap:wrap;gap:.2rem 1rem}
.fcnn .chart>svg{width:100%;height:auto;display:block}
.fcnn .key{width:1.5rem;height:.5rem;vertical-align:middle}
.fcnn .axis{fill:none;stroke:var(--soft)}.fcnn .grid{stroke:var(--line);fill:none}
.fcnn .tick{font-size:12px;fill:var(--soft)}.fcnn .label{font-size:13px;fill:var(--ink)}
.fcnn .line{fill:none;stroke-width:2}.fcnn .mark{fill:none;stroke:var(--soft);stroke-dasharray:3 3}
.fcnn .cloud{opacity:.45}
.fcnn .strip{width:7.75rem;height:1.25rem;fill:var(--c0);vertical-align:middle}
.fcnn .length{width:min(14rem,40vw);height:.8rem;display:block}
.fcnn .plus{fill:var(--c0)}.fcnn .minus{fill:var(--c1)}
.fcnn .picture{display:inline-block;margin:.5rem 1.5rem .5rem 0;vertical-align:top}
.fcnn .picture img{width:min(14rem,70vw);image-rendering:pixelated;border:1px solid var(--line);display:block}
.fcnn .images{display:flex;flex-wrap:wrap;gap:.8rem}
.fcnn .images .picture{margin:0}.fcnn .images img{width:6rem}
.fcnn .images figcaption{line-height:1.3}
.fcnn pre{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:.8rem;overflow-x:auto}
.fcnn pre{font-size:.9rem}
@media(max-width:40rem){.fcnn .beside{margin-right:0}.fcnn th,.fcnn td{padding:.15rem .4rem}
.fcnn article{padding:.75rem}.fcnn table{font-size:.87rem}}
@media print{.fcnn{max-width:none}.fcnn article,.fcnn figure{break-inside:avoid-page}}
"""
    + _COLOURS
)
