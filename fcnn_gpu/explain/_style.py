"""The style sheet of pages: light and dark as the reader's system, for phones, desks and paper."""

STYLE = """
.fcnn{--ink:#1b1f24;--soft:#5b6570;--line:#d9dee3;--ground:#fff;--panel:#f6f8fa;--accent:#0b5cad;--minus:#c2410c;
color:var(--ink);background:var(--ground);font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;
padding:1rem clamp(.75rem,3vw,2rem) 4rem;box-sizing:border-box}
@media(prefers-color-scheme:dark){.fcnn{--ink:#e6e9ed;--soft:#9aa5b1;--line:#343b43;--ground:#14171a;--panel:#1d2126;
--accent:#6cb2ff;--minus:#fb9a5e}body:has(>.fcnn){background:#14171a}}
body:has(>.fcnn){margin:0}
.fcnn h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0 .25rem}
.fcnn h2{font-size:1.3rem;margin:2.5rem 0 .5rem;padding-bottom:.25rem;border-bottom:2px solid var(--accent)}
.fcnn h3,.fcnn h4,.fcnn h5,.fcnn h6{font-size:1.05rem;margin:0 0 .5rem}
.fcnn p{margin:.4rem 0;color:var(--soft)}
.fcnn article{background:var(--panel);border:1px solid var(--line);border-radius:.5rem;padding:1rem;margin:1rem 0}
.fcnn .formula{overflow-x:auto;overflow-y:hidden;padding:.2rem 0 .2rem .5rem;font-size:1.15rem}
.fcnn math{font-family:"STIX Two Math","Cambria Math","Latin Modern Math","Libertinus Math",math}
.fcnn .table{display:inline-block;vertical-align:top;max-width:100%;overflow-x:auto;margin:.8rem 2.5rem 0 0}
.fcnn table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.95rem}
.fcnn caption{text-align:left;font-style:italic;padding:.3rem 0;white-space:nowrap}
.fcnn th,.fcnn td{padding:.15rem .8rem;text-align:right;white-space:nowrap;border:0;background:none;color:inherit}
.fcnn th{border-bottom:1px solid var(--soft);font-weight:600}
.fcnn .name{text-align:left;padding-left:.2rem}
.fcnn tbody tr:nth-child(odd){background:color-mix(in srgb,var(--line) 30%,transparent)}
.fcnn tfoot tr:first-child td{border-top:1px solid var(--soft)}
.fcnn tfoot td{font-weight:600}
.fcnn .left{font-size:.9rem;padding-left:.2rem}
.fcnn figure{display:inline-block;margin:.5rem 1rem .5rem 0}
.fcnn svg{width:min(14rem,70vw);display:block;background:var(--ground);border:1px solid var(--line)}
.fcnn .bar{width:min(14rem,40vw);height:.8rem;border:0;background:none}
.fcnn .plus{fill:var(--ink)}.fcnn .minus{fill:var(--minus)}
.fcnn figcaption{font-size:.9rem;color:var(--soft)}
@media(max-width:40rem){.fcnn .table{margin-right:0}.fcnn th,.fcnn td{padding:.15rem .4rem}.fcnn article{padding:.75rem}
.fcnn table{font-size:.88rem}}
@media print{.fcnn article{break-inside:avoid-page}.fcnn{max-width:none}}
"""
