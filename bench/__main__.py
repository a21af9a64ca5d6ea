"""`make bench`: the measurements that the README quotes, one after the other."""

from bench import encoder, index, matches, query
from bench.server import show

if __name__ == "__main__":
    print("\n# python -m bench.query and bench.index, in one run\n", flush=True)
    show([*query.rows(), *index.rows()], "what", "measured", "in relation")
    for measurement in (encoder, matches):
        print(f"\n# python -m {measurement.__name__}\n", flush=True)
        measurement.main()
