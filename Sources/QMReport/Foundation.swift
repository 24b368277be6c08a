// Foundation without locales, which would be most of every tool that brings its libraries along. Here
// once, for every target that reports; the files of tools need not repeat the choice.
#if canImport(FoundationEssentials)
  @_exported import FoundationEssentials
#else
  @_exported import Foundation
#endif

#if canImport(Glibc)
  @_exported import Glibc
#elseif canImport(Musl)
  @_exported import Musl
#endif
