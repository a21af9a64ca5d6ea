"""`make bench`: the measurements that the README quotes, one after the other."""

from bench import encoder, matches

if __name__ == "__main__":
    for measurement in (encoder, matches):
        print(f"\n# python -m {measurement.__name__}\n", flush=True)
        measurement.main()
