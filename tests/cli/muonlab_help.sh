lab --help
lab run --help
lab fit --help
lab inspect --help
lab --version
lab fit --version
